from unetpipe.log import log_to
from unetpipe.tables import write_csv

log_to(snakemake.log[0])
write_csv(snakemake.input[0], snakemake.output[0])
