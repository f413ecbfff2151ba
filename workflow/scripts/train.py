from unetpipe.log import log_to
from unetpipe.train import train

log_to(snakemake.log[0])
needs, given = snakemake.resources, snakemake.input
train(
    *map(list, (given.images, given.tissues, given.weights)),
    snakemake.output[0],
    validation=list(map(list, (given.val_images, given.val_tissues, given.val_truths))),
    **{name: needs.get(name, default) for name, default in (("device", "auto"), ("minutes", 0))},
    **{"devices": needs.gpu, "threads": snakemake.threads, "memory": needs.mem_mb, **snakemake.params.args},
)
