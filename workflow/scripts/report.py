from unetpipe.log import log_to
from unetpipe.report import write_report

log_to(snakemake.log[0])
write_report(
    snakemake.output[0],
    results="results",
    samples=snakemake.params.samples,
    config=snakemake.params.config,
    networks=list(snakemake.input.networks),
)
