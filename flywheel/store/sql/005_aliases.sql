-- Ids that the program gives otherwise than it did when their rows were made. The rows keep the old id; whoever works
-- out the new one finds them by it.

CREATE TABLE aliases (
    old VARCHAR NOT NULL, -- as it stands in the rows
    new VARCHAR NOT NULL, -- as this program works it out
    why VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);
