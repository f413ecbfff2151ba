from unetpipe.log import log_to
from unetpipe.measure import write_measurements

log_to(snakemake.log[0])
write_measurements(
    *snakemake.input,
    *snakemake.output,
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
)
