from unetpipe.log import log_to
from unetpipe.mask import write_mask

log_to(snakemake.log[0])
write_mask(
    snakemake.input.image,
    snakemake.output[0],
    sample=snakemake.wildcards.sample,
    workers=snakemake.threads,
    **{name: list(snakemake.input[name]) for name in ("roi", "networks", "like")},
    **snakemake.params.args,
)
