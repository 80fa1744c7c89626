-- What each judge of an iteration is worth, in numbers; the measures are those of MEASURES in flywheel/tables.py.

CREATE TABLE health (
    run VARCHAR NOT NULL,
    iteration INTEGER NOT NULL,
    judge VARCHAR NOT NULL,
    measure VARCHAR NOT NULL,
    "value" DOUBLE CHECK (isfinite("value")), -- NULL where it cannot be told
    low DOUBLE CHECK (isfinite(low)),
    high DOUBLE CHECK (isfinite(high)),
    n BIGINT NOT NULL
);
