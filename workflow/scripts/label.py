from unetpipe.label import write_objects
from unetpipe.log import log_to

log_to(snakemake.log[0])
write_objects(
    *snakemake.input,
    snakemake.output[0],
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
    **snakemake.params.args,
)
