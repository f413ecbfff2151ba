from unetpipe.log import log_to
from unetpipe.scheduling import scheduled
from unetpipe.truth import write_truth

log_to(snakemake.log[0])
needs, given = snakemake.resources, {"sample": snakemake.wildcards.sample, **snakemake.params.args}
with scheduled(needs.get("dask", "threads"), workers=snakemake.threads, memory=needs.mem_mb):
    paths = snakemake.input.labels, snakemake.input.image, snakemake.output[0]
    write_truth(*paths, workers=snakemake.threads, **given)
