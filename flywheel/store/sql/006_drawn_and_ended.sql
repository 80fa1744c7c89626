-- Every sampling parameter is sent with every request, so that a server's own defaults never apply, and is recorded.
-- NULL in a row from before: neutral where an engine of ours drew, unknown where a server may have had its own value.

ALTER TABLE draws ADD COLUMN min_p DOUBLE;
ALTER TABLE draws ADD COLUMN repetition_penalty DOUBLE;
ALTER TABLE draws ADD COLUMN presence_penalty DOUBLE;
ALTER TABLE draws ADD COLUMN frequency_penalty DOUBLE;
ALTER TABLE draws ADD COLUMN min_tokens INTEGER;

-- Servers end answers for more reasons than `stop` and `length`. A check cannot be taken off a column, only left behind
-- with it; the column is made anew by its type and not by an update, which takes a second for millions of rows.

ALTER TABLE generations ADD COLUMN said VARCHAR;
ALTER TABLE generations ALTER COLUMN said SET DATA TYPE VARCHAR USING finish_reason;
ALTER TABLE generations DROP COLUMN finish_reason;
ALTER TABLE generations RENAME COLUMN said TO finish_reason;
ALTER TABLE generations ALTER COLUMN finish_reason SET NOT NULL;
