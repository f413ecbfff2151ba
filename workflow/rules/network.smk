# The two rules that hold a GPU, and the one that publishes what prediction's parts have written.


rule train:
    input:
        images=expand(IMAGE, sample=TRAINING),
        tissues=expand(TISSUE, sample=TRAINING),
        weights=expand(WEIGHTS, sample=TRAINING),
        val_images=validating(IMAGE),
        val_tissues=validating(TISSUE),
        val_truths=validating(TRUTH),
        pretrained=pretrained_file(),
    output:
        network="results/network/{fold}/network.json",
        curve=report("results/network/{fold}/curve.tsv", category="Training", caption="../report/curve.rst"),
    log:
        "logs/train/{fold}.log",
    benchmark:
        "results/benchmarks/train/{fold}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(16000),
        runtime=1440,
    params:
        args=training,
        revision=REVISIONS["train"],
    script:
        "../scripts/train.py"


rule predict_part:
    input:
        image=IMAGE,
        tissue=TISSUE,
        networks=NETWORKS,
    output:
        PART,
    log:
        "logs/predict/{sample}/{part}.log",
    benchmark:
        "results/benchmarks/predict/{sample}/{part}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: prediction_mb(config, KIND, attempt),
        runtime=480,
    params:
        args=part_settings,
        revision=REVISIONS["predict"],
    script:
        "../scripts/predict_part.py"


rule predict:
    input:
        image=IMAGE,
        tissue=TISSUE,
        networks=NETWORKS,
        parts=parts,
    output:
        PROBABILITIES,
    log:
        "logs/predict/{sample}.log",
    benchmark:
        "results/benchmarks/predict/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=60,
    params:
        args=prediction(),
        revision=REVISIONS["predict"],
    script:
        "../scripts/predict.py"
