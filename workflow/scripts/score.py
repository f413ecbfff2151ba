from unetpipe.log import log_to
from unetpipe.scheduling import scheduled
from unetpipe.score import write_scores

log_to(snakemake.log[0])
workers, needs, given = snakemake.threads, snakemake.resources, snakemake.params.args
with scheduled(needs.get("dask", "threads"), workers=workers, memory=needs.mem_mb):
    paths = (list(snakemake.input[name]) for name in ("images", "probabilities", "tables"))
    write_scores(*paths, snakemake.output[0], samples=snakemake.params.samples, workers=workers, **given)
