from unetpipe.log import log_to
from unetpipe.weights import write_weights

log_to(snakemake.log[0])
write_weights(
    snakemake.input.image,
    snakemake.input.truth,
    snakemake.output[0],
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
    **snakemake.params.args,
)
