# What is written on request only: `snakemake csv`, `snakemake tiff`, or one file by its name.


rule csv:
    input:
        expand(CSV, sample=PREDICTED),


rule tiff:
    input:
        expand(TIFF, sample=PREDICTED),


rule table_csv:
    input:
        TABLE,
    output:
        CSV,
    log:
        "logs/table_csv/{sample}.log",
    benchmark:
        "results/benchmarks/table_csv/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=growing(1000),
        runtime=60,
    script:
        "../scripts/table_csv.py"


rule labels_tiff:
    input:
        image=IMAGE,
        objects=OBJECTS,
    output:
        TIFF,
    log:
        "logs/labels_tiff/{sample}.log",
    benchmark:
        "results/benchmarks/labels_tiff/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=120,
    script:
        "../scripts/labels_tiff.py"
