-- The tables of flywheel/tables.py. Rows are appended, never edited.
--
-- No primary keys: an index over millions of hash ids touches all of its pages with every batch, so a batch would cost
-- more the longer the history is. The store leaves out rows that are there already (`KEYS` in tables.py).
--
-- Compression is named where DuckDB's own choice costs: texts take half the space with zstd, and hashes cannot be made
-- smaller, but are read often.

CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    program VARCHAR NOT NULL, -- the version of flywheel that wrote the row
    views VARCHAR NOT NULL, -- hash of schema/views.sql
    applied_at TIMESTAMP NOT NULL
);

CREATE TABLE prompts (
    id VARCHAR NOT NULL,
    chat STRUCT("role" VARCHAR, "content" VARCHAR)[] NOT NULL,
    reference VARCHAR,
    meta VARCHAR,
    source VARCHAR NOT NULL
);

CREATE TABLE draws (
    id VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    n INTEGER NOT NULL CHECK (n > 0),
    temperature DOUBLE NOT NULL CHECK (temperature >= 0),
    top_p DOUBLE NOT NULL,
    top_k INTEGER NOT NULL,
    max_tokens INTEGER NOT NULL CHECK (max_tokens > 0),
    stop VARCHAR[] NOT NULL,
    seed BIGINT NOT NULL
);

CREATE TABLE generations (
    id VARCHAR NOT NULL USING COMPRESSION uncompressed,
    prompt VARCHAR NOT NULL USING COMPRESSION uncompressed,
    checkpoint VARCHAR NOT NULL,
    draw VARCHAR NOT NULL,
    "index" INTEGER NOT NULL CHECK ("index" >= 0),
    role VARCHAR NOT NULL CHECK (role IN ('answer', 'exam', 'judgment', 'critique', 'revision', 'proposal')),
    "text" VARCHAR NOT NULL USING COMPRESSION zstd,
    finish_reason VARCHAR NOT NULL CHECK (finish_reason IN ('stop', 'length')),
    prompt_tokens INTEGER, -- NULL where the engine does not say, like the next two
    tokens INTEGER,
    logprob DOUBLE,
    seed BIGINT NOT NULL,
    engine VARCHAR NOT NULL,
    template VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE judgments (
    generation VARCHAR NOT NULL USING COMPRESSION uncompressed,
    judge VARCHAR NOT NULL,
    vote INTEGER NOT NULL,
    score DOUBLE,
    status VARCHAR NOT NULL CHECK (status IN ('ok', 'unparsable', 'timeout', 'error', 'refused')),
    detail VARCHAR,
    trace VARCHAR,
    prompt VARCHAR NOT NULL USING COMPRESSION uncompressed, -- this and the next three are the generation's
    checkpoint VARCHAR NOT NULL,
    draw VARCHAR NOT NULL,
    "index" INTEGER NOT NULL,
    -- A failed judgment is never a number, and a number is never NaN: one would turn every mean into NaN.
    CHECK (CASE WHEN status = 'ok' THEN score IS NOT NULL AND isfinite(score) ELSE score IS NULL END)
);

CREATE TABLE comparisons (
    a VARCHAR NOT NULL,
    b VARCHAR NOT NULL,
    "order" VARCHAR NOT NULL CHECK ("order" IN ('ab', 'ba')),
    judge VARCHAR NOT NULL,
    vote INTEGER NOT NULL,
    verdict VARCHAR,
    status VARCHAR NOT NULL CHECK (status IN ('ok', 'unparsable', 'timeout', 'error', 'refused')),
    trace VARCHAR,
    CHECK (CASE WHEN status = 'ok' THEN verdict IS NOT NULL AND verdict IN ('a', 'b', 'tie') ELSE verdict IS NULL END)
);

CREATE TABLE selections (
    iteration VARCHAR NOT NULL,
    "position" INTEGER NOT NULL,
    "filter" VARCHAR NOT NULL,
    generation VARCHAR NOT NULL,
    kept BOOLEAN NOT NULL,
    reason VARCHAR
);

CREATE TABLE examples (
    dataset VARCHAR NOT NULL,
    "position" INTEGER NOT NULL,
    prompt VARCHAR NOT NULL,
    chat STRUCT("role" VARCHAR, "content" VARCHAR)[] NOT NULL,
    chosen VARCHAR NOT NULL,
    rejected VARCHAR,
    weight DOUBLE NOT NULL,
    origin VARCHAR NOT NULL CHECK (origin IN ('real', 'synthetic')),
    generations VARCHAR[] NOT NULL
);

CREATE TABLE datasets (
    id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    "rows" BIGINT NOT NULL,
    "real" BIGINT NOT NULL,
    synthetic BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE iteration_datasets (
    iteration VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL
);

CREATE TABLE checkpoints (
    id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('base', 'scratch', 'trained')),
    parent VARCHAR,
    reference VARCHAR,
    dataset VARCHAR,
    trainer VARCHAR,
    weights VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE metrics (
    checkpoint VARCHAR NOT NULL,
    step INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    "value" DOUBLE
);

CREATE TABLE exams (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    "position" INTEGER NOT NULL,
    prompt VARCHAR NOT NULL
);

CREATE TABLE grades (
    checkpoint VARCHAR NOT NULL,
    exam VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL,
    n INTEGER NOT NULL CHECK (n > 0),
    correct INTEGER NOT NULL,
    unscored INTEGER NOT NULL,
    majority BOOLEAN,
    CHECK (correct >= 0 AND unscored >= 0 AND correct + unscored <= n)
);

CREATE TABLE runs (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    recipe VARCHAR NOT NULL,
    versions VARCHAR NOT NULL,
    seed BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE iterations (
    id VARCHAR NOT NULL,
    run VARCHAR NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 0),
    policy VARCHAR, -- NULL for iteration 0, which makes the base
    draw VARCHAR,
    recipe VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE proposals (
    iteration VARCHAR NOT NULL,
    "position" INTEGER NOT NULL,
    prompt VARCHAR NOT NULL
);

CREATE TABLE decisions (
    iteration VARCHAR NOT NULL,
    candidate VARCHAR, -- NULL where nothing was kept to train on
    incumbent VARCHAR,
    decision VARCHAR NOT NULL CHECK (decision IN ('promote', 'hold', 'roll back')),
    policy VARCHAR NOT NULL,
    exam VARCHAR,
    score DOUBLE,
    difference DOUBLE,
    low DOUBLE,
    high DOUBLE,
    p DOUBLE,
    gained INTEGER,
    lost INTEGER,
    reason VARCHAR
);

CREATE TABLE events (
    run VARCHAR NOT NULL,
    iteration INTEGER,
    step VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('done', 'failure', 'note')),
    "rows" BIGINT,
    tokens BIGINT,
    seconds DOUBLE,
    detail VARCHAR,
    created_at TIMESTAMP NOT NULL
);
