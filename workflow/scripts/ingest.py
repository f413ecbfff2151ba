from unetpipe.ingest import ingest
from unetpipe.log import log_to

log_to(snakemake.log[0])
ingest(
    list(snakemake.input),
    snakemake.output[0],
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
    **snakemake.params.args,
)
