from unetpipe.ingest import ingest
from unetpipe.log import log_to
from unetpipe.scheduling import scheduled

log_to(snakemake.log[0])
needs, given = snakemake.resources, {"sample": snakemake.wildcards.sample, **snakemake.params.args}
with scheduled(needs.get("dask", "threads"), workers=snakemake.threads, memory=needs.mem_mb):
    ingest(list(snakemake.input), snakemake.output[0], workers=snakemake.threads, **given)
