# From files to stores: pixels, truth, tissue, and what training aims at.


rule ingest:
    input:
        files,
    output:
        IMAGE,
    log:
        "logs/ingest/{sample}.log",
    benchmark:
        "results/benchmarks/ingest/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=240,
    params:
        args=ingest_settings,
        revision=REVISIONS["ingest"],
    script:
        "../scripts/ingest.py"


rule truth:
    input:
        image=IMAGE,
        labels=annotations,
    output:
        TRUTH,
    log:
        "logs/truth/{sample}.log",
    benchmark:
        "results/benchmarks/truth/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=120,
    params:
        args=truth_settings,
        revision=REVISIONS["truth"],
    script:
        "../scripts/truth.py"


rule mask:
    input:
        image=IMAGE,
        roi=regions,
        networks=given_networks,
        like=training_image,
    output:
        TISSUE,
    log:
        "logs/mask/{sample}.log",
    benchmark:
        "results/benchmarks/mask/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        args=settings("mask"),
        revision=REVISIONS["mask"],
    script:
        "../scripts/mask.py"


rule weights:
    input:
        image=IMAGE,
        truth=TRUTH,
    output:
        WEIGHTS,
    log:
        "logs/weights/{sample}.log",
    benchmark:
        "results/benchmarks/weights/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=120,
    params:
        args=settings("weights", dimensions=config["dimensions"]),
        revision=REVISIONS["weights"],
    script:
        "../scripts/weights.py"
