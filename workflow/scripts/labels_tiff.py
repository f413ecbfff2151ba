from unetpipe.labels_tiff import write_tiff
from unetpipe.log import log_to

log_to(snakemake.log[0])
write_tiff(
    *snakemake.input,
    snakemake.output[0],
    workers=snakemake.threads,
)
