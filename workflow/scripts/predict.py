from unetpipe.log import log_to
from unetpipe.predict.publish import publish_probabilities

log_to(snakemake.log[0])
publish_probabilities(
    *snakemake.input[:2],
    list(snakemake.input.networks),
    snakemake.output[0],
    parts=list(snakemake.input.parts),
    sample=snakemake.wildcards.sample,
    **snakemake.params.args,
)
