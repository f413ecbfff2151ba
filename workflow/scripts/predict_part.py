from unetpipe.log import log_to
from unetpipe.needs import WORKERS
from unetpipe.predict.part import predict_part
from unetpipe.scheduling import scheduled

log_to(snakemake.log[0])
needs, given = snakemake.resources, {"threads": snakemake.threads, **snakemake.params.args}
with scheduled(needs.get("dask", "threads"), threads=WORKERS, memory=needs.mem_mb):
    paths = *snakemake.input[:2], list(snakemake.input.networks), snakemake.output[0]
    predict_part(*paths, device=needs.get("device", "auto"), **given)
