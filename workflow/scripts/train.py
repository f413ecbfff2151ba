from unetpipe.log import log_to
from unetpipe.train import train

log_to(snakemake.log[0])
train(
    *map(list, (snakemake.input.images, snakemake.input.tissues, snakemake.input.weights)),
    snakemake.output[0],
    device=snakemake.resources.get("device", "auto"),
    threads=snakemake.threads,
    memory=snakemake.resources.mem_mb,
    **snakemake.params.args,
)
