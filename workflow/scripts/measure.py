from unetpipe.log import log_to
from unetpipe.measure import write_measurements
from unetpipe.scheduling import scheduled

log_to(snakemake.log[0])
workers, needs = snakemake.threads, snakemake.resources
with scheduled(needs.get("dask", "threads"), workers=workers, memory=needs.mem_mb):
    paths = *snakemake.input, *snakemake.output
    write_measurements(*paths, sample=snakemake.wildcards.sample, workers=workers)
