from unetpipe.log import log_to
from unetpipe.score import write_scores

log_to(snakemake.log[0])
write_scores(
    *(list(snakemake.input[name]) for name in ("images", "probabilities", "tables")),
    snakemake.output[0],
    samples=snakemake.params.samples,
    workers=snakemake.threads,
    **snakemake.params.args,
)
