# From probabilities to objects, tables, scores and the report.


rule label:
    input:
        image=IMAGE,
        probabilities=PROBABILITIES,
    output:
        OBJECTS,
    log:
        "logs/label/{sample}.log",
    benchmark:
        "results/benchmarks/label/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=240,
    params:
        args=settings("label"),
        revision=REVISIONS["label"],
    script:
        "../scripts/label.py"


rule measure:
    input:
        image=IMAGE,
        probabilities=PROBABILITIES,
        objects=OBJECTS,
    output:
        table=TABLE,
        outlines=OUTLINES,
    log:
        "logs/measure/{sample}.log",
    benchmark:
        "results/benchmarks/measure/{sample}.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=240,
    params:
        revision=REVISIONS["measure"],
    script:
        "../scripts/measure.py"


rule score:
    input:
        images=expand(IMAGE, sample=SCORED),
        truths=expand(TRUTH, sample=SCORED),
        probabilities=expand(PROBABILITIES, sample=SCORED),
        tables=expand(TABLE, sample=SCORED),
    output:
        report("results/scores.tsv", category="Scores", caption="../report/scores.rst"),
    log:
        "logs/score.log",
    benchmark:
        "results/benchmarks/score.tsv"
    conda:
        "../envs/unetpipe.yaml"
    threads: 2
    resources:
        mem_mb=growing(4000),
        runtime=240,
    params:
        args=settings("score"),
        samples=[[name, SAMPLES[name].split] for name in SCORED],
        revision=REVISIONS["score"],
    script:
        "../scripts/score.py"


rule report:
    input:
        images=expand(IMAGE, sample=SAMPLES),
        tissues=expand(TISSUE, sample=SAMPLES),
        objects=expand(OBJECTS, sample=PREDICTED),
        tables=expand(TABLE, sample=PREDICTED),
        probabilities=expand(PROBABILITIES, sample=PREDICTED),
        networks=NETWORKS,
        scores=["results/scores.tsv"] if SCORED else [],
    output:
        report(REPORT[0], category="Report", caption="../report/page.rst"),
        report(REPORT[1], category="Report", caption="../report/samples.rst"),
        REPORT[2],
    log:
        "logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/unetpipe.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=60,
    params:
        samples=NAMED,
        config=ordered(config),
        revision=REVISIONS["report"],
    script:
        "../scripts/report.py"
