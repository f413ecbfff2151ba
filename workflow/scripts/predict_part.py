from unetpipe.log import log_to
from unetpipe.predict import predict_part

log_to(snakemake.log[0])
predict_part(
    *snakemake.input[:2],
    list(snakemake.input.networks),
    snakemake.output[0],
    device=snakemake.resources.get("device", "auto"),
    threads=snakemake.threads,
    **snakemake.params.args,
)
