from unetpipe.log import log_to
from unetpipe.score import write_scores

log_to(snakemake.log[0])
write_scores(
    *map(list, (snakemake.input.images, snakemake.input.truths, snakemake.input.objects)),
    snakemake.output[0],
    samples=snakemake.params.samples,
    **snakemake.params.args,
)
