-- What became of a promotion that waits for a human: the gate asked, then somebody approved or rejected it.
-- The first verdict counts.

CREATE TABLE approvals (
    iteration VARCHAR NOT NULL,
    candidate VARCHAR NOT NULL,
    status VARCHAR NOT NULL CHECK (status IN ('asked', 'approved', 'rejected')),
    author VARCHAR, -- who gave the verdict
    said VARCHAR, -- what the promotion rests on where it was asked, then why it was approved or rejected
    created_at TIMESTAMP NOT NULL
);
