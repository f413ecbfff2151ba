from unetpipe.log import log_to
from unetpipe.train import train

log_to(snakemake.log[0])
needs = snakemake.resources
train(
    *map(list, (snakemake.input.images, snakemake.input.tissues, snakemake.input.weights)),
    snakemake.output[0],
    **{name: needs.get(name, default) for name, default in (("device", "auto"), ("minutes", 0))},
    **{"devices": needs.gpu, "threads": snakemake.threads, "memory": needs.mem_mb, **snakemake.params.args},
)
