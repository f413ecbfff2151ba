from unetpipe.log import log_to
from unetpipe.truth import write_truth

log_to(snakemake.log[0])
write_truth(
    snakemake.input.labels,
    snakemake.input.image,
    snakemake.output[0],
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
    **snakemake.params.args,
)
