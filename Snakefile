# From a sheet of files to objects, tables, scores and a report: see README.md.


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/images.smk"
include: "workflow/rules/network.smk"
include: "workflow/rules/objects.smk"
include: "workflow/rules/exports.smk"
include: "workflow/rules/hooks.smk"


rule all:
    default_target: True
    input:
        every_stage(),
