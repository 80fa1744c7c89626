-- The questions that everybody asks. Made anew whenever this file changes, so a view can be changed without a migration.
-- In all of them `run` is a run's id, `name` its recipe's name, and `iteration` the number of the turn, from 0.

CREATE OR REPLACE VIEW answers AS
SELECT i.run, r.name, i.number AS iteration, i.id AS iteration_id, g.id AS generation, g.prompt, g.checkpoint, g.draw,
       g."index", g."text", g.finish_reason, g.prompt_tokens, g.tokens, g.logprob, g.engine, g.created_at
FROM iterations i
LEFT JOIN runs r ON r.id = i.run
JOIN generations g ON g.checkpoint = i.policy AND g.draw = i.draw
WHERE g.role = 'answer' AND EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = i.id AND p.prompt = g.prompt);
COMMENT ON VIEW answers IS 'Which answers belong to which iteration: those of its policy, with its draw, to its prompts';
COMMENT ON COLUMN answers.run IS 'id of the run';
COMMENT ON COLUMN answers.name IS 'name of the run''s recipe';
COMMENT ON COLUMN answers.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN answers.prompt IS 'id of the prompt';
COMMENT ON COLUMN answers.checkpoint IS 'id of the checkpoint that answered';
COMMENT ON COLUMN answers.draw IS 'id of the sampling parameters and seed';
COMMENT ON COLUMN answers."index" IS 'which of the prompt''s answers, from 0';
COMMENT ON COLUMN answers."text" IS 'what the model wrote';
COMMENT ON COLUMN answers.finish_reason IS 'stop where the model ended it, length where it was cut, else what the server said';
COMMENT ON COLUMN answers.prompt_tokens IS 'tokens of the prompt';
COMMENT ON COLUMN answers.tokens IS 'tokens of the text';
COMMENT ON COLUMN answers.engine IS 'name and version';
COMMENT ON COLUMN answers.created_at IS 'UTC';
COMMENT ON COLUMN answers.iteration_id IS 'id of the row of iterations';
COMMENT ON COLUMN answers.generation IS 'id of the row of generations';
COMMENT ON COLUMN answers.logprob IS 'sum over the tokens of the text, before temperature and truncation';

-- The marks are those of flywheel/thoughts.py. What a judge reads as the answer is what follows the last end.
CREATE OR REPLACE VIEW thoughts AS
WITH said AS (
    SELECT run, name, iteration, prompt, generation, "index", tokens, "text",
           regexp_replace("text", '(?s)^.*(</think>|</thinking>|</thought>|\[/THINK\]|</seed:think>|<\|end_of_thought\|>|<\|END_THINKING\|>)', '')
           AS answer
    FROM answers),
apart AS (
    SELECT *, NOT regexp_matches(answer, '<think>|<thinking>|<thought>|\[THINK\]|<seed:think>|<\|begin_of_thought\|>|<\|START_THINKING\|>')
           AS ended,
           CASE WHEN ended THEN length("text") - length(answer) ELSE length("text") END AS chars
    FROM said)
SELECT run, name, iteration, prompt, generation, "index", ended, chars, tokens,
       round(tokens * chars / nullif(length("text"), 0))::BIGINT AS thought_tokens
FROM apart WHERE chars > 0;
COMMENT ON VIEW thoughts IS 'Answers in which a model thought first, and how much of them is thought';
COMMENT ON COLUMN thoughts.run IS 'id of the run';
COMMENT ON COLUMN thoughts.name IS 'name of the run''s recipe';
COMMENT ON COLUMN thoughts.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN thoughts.prompt IS 'id of the prompt';
COMMENT ON COLUMN thoughts.generation IS 'id of the answer';
COMMENT ON COLUMN thoughts."index" IS 'which of the prompt''s answers, from 0';
COMMENT ON COLUMN thoughts.ended IS 'false where the thought has no end, so that there is no answer';
COMMENT ON COLUMN thoughts.chars IS 'characters of the thought, its marks included';
COMMENT ON COLUMN thoughts.tokens IS 'tokens of thought and answer';
COMMENT ON COLUMN thoughts.thought_tokens IS 'about how many of them are thought: as many as its share of the characters';

-- The second half is empty for rules, which vote once: to group a million rows takes longer than all else together.
CREATE OR REPLACE VIEW opinions AS
SELECT generation, judge, score, 1::BIGINT AS votes, (score IS NULL)::BIGINT AS failed, prompt, checkpoint, draw, "index"
FROM judgments WHERE judge NOT IN (SELECT judge FROM judgments WHERE vote > 0)
UNION ALL
SELECT generation, judge, avg(score), count(*), count(*) FILTER (score IS NULL), any_value(prompt), checkpoint, draw,
       any_value("index") -- grouped by checkpoint and draw, so that a question about one iteration reads no other
FROM judgments WHERE judge IN (SELECT judge FROM judgments WHERE vote > 0) GROUP BY generation, judge, checkpoint, draw;
COMMENT ON VIEW opinions IS 'What each judge thinks of each generation, its votes taken together';
COMMENT ON COLUMN opinions.generation IS 'id of the generation';
COMMENT ON COLUMN opinions.judge IS 'name of the judge';
COMMENT ON COLUMN opinions.score IS 'mean of the valid votes, NULL if there is none';
COMMENT ON COLUMN opinions.votes IS 'votes, the failed ones included';
COMMENT ON COLUMN opinions.failed IS 'votes that gave no score';
COMMENT ON COLUMN opinions.prompt IS 'id of the generation''s prompt';
COMMENT ON COLUMN opinions.checkpoint IS 'id of the checkpoint that generated it';
COMMENT ON COLUMN opinions.draw IS 'id of the sampling parameters and seed';
COMMENT ON COLUMN opinions."index" IS 'which of the prompt''s generations, from 0';

CREATE OR REPLACE VIEW judged AS
WITH first_judge AS (
    SELECT checkpoint, draw, arg_min(judge, rowid) AS judge FROM judgments GROUP BY checkpoint, draw),
told AS ( -- with the number, so that a question about one iteration reads no other
    SELECT i.run, i.number, o.generation, o.judge, o.score, o.votes, o.failed
    FROM iterations i JOIN first_judge f ON f.checkpoint = i.policy AND f.draw = i.draw
    JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw AND o.judge = f.judge)
SELECT a.run, a.name, a.iteration, a.prompt, p.chat, p.reference, p.source, a.generation, a."index", a."text",
       a.finish_reason, a.tokens, a.logprob, o.judge, o.score, o.votes, o.failed
FROM answers a
LEFT JOIN prompts p ON p.id = a.prompt
LEFT JOIN told o ON o.run = a.run AND o.number = a.iteration AND o.generation = a.generation;
COMMENT ON VIEW judged IS 'Each answer once, with its prompt and what the first judge thinks of it; opinions has all judges';
COMMENT ON COLUMN judged.run IS 'id of the run';
COMMENT ON COLUMN judged.name IS 'name of the run''s recipe';
COMMENT ON COLUMN judged.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN judged.prompt IS 'id of the prompt';
COMMENT ON COLUMN judged.chat IS 'the prompt''s messages';
COMMENT ON COLUMN judged.reference IS 'the known answer, or NULL';
COMMENT ON COLUMN judged.source IS 'where the prompt comes from';
COMMENT ON COLUMN judged.generation IS 'id of the generation';
COMMENT ON COLUMN judged."index" IS 'which of the prompt''s answers, from 0';
COMMENT ON COLUMN judged."text" IS 'what the model wrote';
COMMENT ON COLUMN judged.finish_reason IS 'stop where the model ended it, length where it was cut, else what the server said';
COMMENT ON COLUMN judged.tokens IS 'tokens of the text';
COMMENT ON COLUMN judged.logprob IS 'sum over the tokens of the text, before temperature and truncation';
COMMENT ON COLUMN judged.votes IS 'votes of that judge, the failed ones included';
COMMENT ON COLUMN judged.failed IS 'votes of that judge that gave no score';
COMMENT ON COLUMN judged.judge IS 'the judge that came first, which is the first one of the recipe; NULL before it has judged';
COMMENT ON COLUMN judged.score IS 'mean of the judge''s valid votes, NULL if there is none';

CREATE OR REPLACE VIEW near_duplicates AS
WITH bags AS ( -- of what generations say, before they are joined with anything: that is done on all cores
    SELECT id, checkpoint, draw, prompt, "index", "text",
           list_distinct(string_split(
               replace(translate(lower("text"), chr(10) || chr(9) || '.,;:!?()[]{}*_`"''', '  '), '  ', ' '), ' ')) AS bag
    FROM generations WHERE role = 'answer'),
own AS (
    SELECT i.run, r.name, i.number AS iteration, b.prompt, b.id AS generation, b."index", b."text", b.bag
    FROM iterations i LEFT JOIN runs r ON r.id = i.run JOIN bags b ON b.checkpoint = i.policy AND b.draw = i.draw
    WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = i.id AND p.prompt = b.prompt)),
pairs AS (
    SELECT a.run, a.name, a.iteration, a.prompt, a.generation, b.generation AS other, a."text", b."text" AS other_text,
           len(list_intersect(a.bag, b.bag)) AS common, len(a.bag) + len(b.bag) AS words
    FROM own a
    JOIN own b ON b.run = a.run AND b.iteration = a.iteration AND b.prompt = a.prompt AND b."index" > a."index"
    WHERE least(len(a.bag), len(b.bag)) >= 0.8 * greatest(len(a.bag), len(b.bag))) -- else they cannot share so many
SELECT run, name, iteration, prompt, generation, other, "text", other_text, common / (words - common) AS similarity
FROM pairs WHERE similarity >= 0.8;
COMMENT ON VIEW near_duplicates IS 'Pairs of answers to a prompt that share at least 0.8 of their words';
COMMENT ON COLUMN near_duplicates.run IS 'id of the run';
COMMENT ON COLUMN near_duplicates.name IS 'name of the run''s recipe';
COMMENT ON COLUMN near_duplicates.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN near_duplicates.prompt IS 'id of the prompt';
COMMENT ON COLUMN near_duplicates.generation IS 'id of the answer with the lower index';
COMMENT ON COLUMN near_duplicates.other IS 'id of the other answer';
COMMENT ON COLUMN near_duplicates."text" IS 'what the first one says';
COMMENT ON COLUMN near_duplicates.other_text IS 'what the other one says';
COMMENT ON COLUMN near_duplicates.similarity IS 'words that both have, of those that either has (Jaccard), without case, order and punctuation';

CREATE OR REPLACE VIEW scores AS
WITH sums AS (
    SELECT i.id, o.judge, count(*) AS answers, count(o.score) AS n, sum(o.score) AS s,
           sum(o.score * o.score) AS squares
    FROM iterations i JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw
    WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = i.id AND p.prompt = o.prompt) GROUP BY i.id, o.judge)
SELECT i.run, r.name, i.number AS iteration, c.judge, s / nullif(n, 0) AS mean,
       CASE WHEN n > 1 THEN sqrt(greatest(0, squares - s * s / n) / (n - 1)) END AS deviation,
       answers, answers - n AS failed
FROM sums c JOIN iterations i ON i.id = c.id LEFT JOIN runs r ON r.id = i.run ORDER BY i.run, i.number, c.judge;
COMMENT ON VIEW scores IS 'Mean score of each iteration''s answers by each judge';
COMMENT ON COLUMN scores.run IS 'id of the run';
COMMENT ON COLUMN scores.name IS 'name of the run''s recipe';
COMMENT ON COLUMN scores.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN scores.judge IS 'name of the judge';
COMMENT ON COLUMN scores.answers IS 'answers that the judge has seen';
COMMENT ON COLUMN scores.mean IS 'over the answers that have a score';
COMMENT ON COLUMN scores.deviation IS 'standard deviation between answers';
COMMENT ON COLUMN scores.failed IS 'answers that the judge has seen and could not score';

-- This view and progress ask only after they have grouped which prompts belong to the iteration: that is faster.
CREATE OR REPLACE VIEW pass_at_k AS
WITH counts AS (
    SELECT i.id, o.judge, o.prompt, count(*) AS n, count(*) FILTER (o.score > 0.5) AS c
    FROM iterations i JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw GROUP BY i.id, o.judge, o.prompt),
alike AS (
    SELECT i.run, r.name, i.number AS iteration, c.judge, c.n, c.c, count(*) AS prompts
    FROM counts c JOIN iterations i ON i.id = c.id LEFT JOIN runs r ON r.id = i.run
    WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = c.id AND p.prompt = c.prompt) GROUP BY ALL)
SELECT run, name, iteration, judge, k, sum(prompts)::BIGINT AS prompts,
       -- 1 - C(n-c, k) / C(n, k), multiplied out over the c right answers, so that nothing overflows
       sum(prompts * (1 - coalesce(list_product([1 - k / i FOR i IN range(n - c + 1, n + 1)]), 1))) / sum(prompts)
       AS rate
FROM alike, (SELECT unnest([1, 2, 4, 8, 16, 32, 64, 128, 256]) AS k)
WHERE k <= n GROUP BY run, name, iteration, judge, k ORDER BY run, iteration, judge, k;
COMMENT ON VIEW pass_at_k IS 'Chance that one of k answers is right, unbiased: mean over prompts of 1 - C(n-c, k) / C(n, k)';
COMMENT ON COLUMN pass_at_k.run IS 'id of the run';
COMMENT ON COLUMN pass_at_k.name IS 'name of the run''s recipe';
COMMENT ON COLUMN pass_at_k.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN pass_at_k.judge IS 'name of the judge';
COMMENT ON COLUMN pass_at_k.k IS 'answers that one may try: powers of two up to the number of answers';
COMMENT ON COLUMN pass_at_k.prompts IS 'prompts with at least k judged answers';
COMMENT ON COLUMN pass_at_k.rate IS 'an answer is right if its mean score is above 0.5; one without a score is not right';

CREATE OR REPLACE VIEW best_of_n AS
WITH best AS (
    SELECT i.id, i.run, i.number, o.judge, o.prompt, count(*) AS answers, max(o.score) AS score, -- number: to narrow it
           arg_max(o.generation, row(o.score, -o."index")) FILTER (o.score IS NOT NULL) AS generation
    FROM iterations i JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw
    GROUP BY i.id, i.run, i.number, o.judge, o.prompt)
SELECT b.run, r.name, b.number AS iteration, b.judge, b.prompt, b.answers, b.score, b.generation
FROM best b LEFT JOIN runs r ON r.id = b.run
WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = b.id AND p.prompt = b.prompt);
COMMENT ON VIEW best_of_n IS 'The best answer to each prompt of each iteration by each judge';
COMMENT ON COLUMN best_of_n.run IS 'id of the run';
COMMENT ON COLUMN best_of_n.name IS 'name of the run''s recipe';
COMMENT ON COLUMN best_of_n.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN best_of_n.judge IS 'name of the judge';
COMMENT ON COLUMN best_of_n.prompt IS 'id of the prompt';
COMMENT ON COLUMN best_of_n.score IS 'the highest score of them';
COMMENT ON COLUMN best_of_n.answers IS 'how many the judge has seen';
COMMENT ON COLUMN best_of_n.generation IS 'the first one of those with the highest score; NULL if none has a score';

CREATE OR REPLACE VIEW judge_health AS
SELECT h.run, r.name, h.iteration, h.judge, h.measure, h."value", h.low, h.high, h.n,
       h."value" - lag(h."value") OVER (PARTITION BY h.run, h.judge, h.measure ORDER BY h.iteration) AS change
FROM health h LEFT JOIN runs r ON r.id = h.run ORDER BY h.run, h.iteration, h.rowid;
COMMENT ON VIEW judge_health IS 'What each judge of each iteration is worth, in numbers';
COMMENT ON COLUMN judge_health.run IS 'id of the run';
COMMENT ON COLUMN judge_health.name IS 'name of the run''s recipe';
COMMENT ON COLUMN judge_health.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN judge_health.judge IS 'name of the judge';
COMMENT ON COLUMN judge_health.measure IS 'what is measured: agreement with gold, what sways the judge, its failures and its drift';
COMMENT ON COLUMN judge_health."value" IS 'NULL where it cannot be told';
COMMENT ON COLUMN judge_health.low IS 'lower end of the 95% interval, prompts resampled';
COMMENT ON COLUMN judge_health.high IS 'upper end of the 95% interval';
COMMENT ON COLUMN judge_health.n IS 'answers, pairs, votes or verdicts that it rests on';
COMMENT ON COLUMN judge_health.change IS 'since the iteration before';

CREATE OR REPLACE VIEW funnel AS
WITH fates AS (
    SELECT iteration, "position", "filter", kept, coalesce(reason, 'no reason given') AS reason, count(*) AS n
    FROM selections GROUP BY ALL)
SELECT i.run, r.name, i.number AS iteration, f."position", f."filter", sum(n)::BIGINT AS rows_in,
       coalesce(sum(n) FILTER (kept), 0)::BIGINT AS rows_out,
       string_agg(reason || ': ' || n, '; ' ORDER BY n DESC, reason) FILTER (NOT kept) AS reason
FROM fates f JOIN iterations i ON i.id = f.iteration LEFT JOIN runs r ON r.id = i.run
GROUP BY ALL ORDER BY i.run, i.number, f."position";
COMMENT ON VIEW funnel IS 'What each filter let through in each iteration, and why it dropped the rest';
COMMENT ON COLUMN funnel.run IS 'id of the run';
COMMENT ON COLUMN funnel.name IS 'name of the run''s recipe';
COMMENT ON COLUMN funnel.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN funnel."filter" IS 'name of the filter';
COMMENT ON COLUMN funnel."position" IS 'of the filter in the recipe, from 0';
COMMENT ON COLUMN funnel.rows_in IS 'answers that reached the filter';
COMMENT ON COLUMN funnel.rows_out IS 'answers that it kept';
COMMENT ON COLUMN funnel.reason IS 'why it dropped, with the number of answers for each reason';

CREATE OR REPLACE VIEW ledger AS
SELECT e.run, r.name, e.iteration, e.step, sum(e."rows")::BIGINT AS "rows", sum(e.tokens)::BIGINT AS tokens,
       sum(e.seconds) AS seconds, count(*) FILTER (e.kind = 'failure') AS failures, min(e.created_at) AS first_at
FROM events e LEFT JOIN runs r ON r.id = e.run
GROUP BY e.run, r.name, e.iteration, e.step ORDER BY e.run, e.iteration, first_at;
COMMENT ON VIEW ledger IS 'What each step of each iteration cost, all attempts together';
COMMENT ON COLUMN ledger.run IS 'id of the run';
COMMENT ON COLUMN ledger.name IS 'name of the run''s recipe';
COMMENT ON COLUMN ledger.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN ledger.step IS 'name of the step';
COMMENT ON COLUMN ledger."rows" IS 'what the step counts: prompts, answers or optimizer steps';
COMMENT ON COLUMN ledger.first_at IS 'when the first attempt ended, UTC';
COMMENT ON COLUMN ledger.tokens IS 'tokens that were generated or trained on';
COMMENT ON COLUMN ledger.seconds IS 'wall-clock time';
COMMENT ON COLUMN ledger.failures IS 'attempts that ended in an error';

CREATE OR REPLACE VIEW progress AS
WITH asked AS (SELECT iteration, count(DISTINCT prompt) AS prompts FROM proposals GROUP BY iteration),
answered AS (
    SELECT i.id, g.prompt, count(*) AS answers FROM iterations i
    JOIN generations g ON g.checkpoint = i.policy AND g.draw = i.draw WHERE g.role = 'answer' GROUP BY i.id, g.prompt),
made AS (
    SELECT id AS iteration_id, sum(answers)::BIGINT AS generated FROM answered
    WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = answered.id AND p.prompt = answered.prompt)
    GROUP BY id),
final AS (SELECT iteration, max("position") AS "position" FROM selections GROUP BY iteration),
survived AS (
    SELECT s.iteration, count(*) FILTER (s.kept) AS kept
    FROM selections s JOIN final USING (iteration, "position") GROUP BY s.iteration),
spent AS (
    SELECT run, iteration, sum(tokens)::BIGINT AS tokens, sum(seconds) AS seconds FROM ledger GROUP BY run, iteration),
agreed AS (
    SELECT run, iteration, arg_min("value", rowid) AS agreement
    FROM health WHERE measure = 'accuracy' GROUP BY run, iteration),
noticed AS (
    SELECT run, iteration, string_agg(DISTINCT detail, chr(10) ORDER BY detail) AS notes
    FROM events WHERE kind = 'note' GROUP BY run, iteration)
SELECT i.run, r.name, i.number AS iteration, d.decision, d.score, d.difference, d.low, d.high, d.p, d.gained, d.lost,
       h.agreement, n.notes, coalesce(a.prompts, 0) AS prompts, coalesce(m.generated, 0) AS generated,
       coalesce(v.kept, CASE WHEN x.dataset IS NOT NULL THEN m.generated END) AS kept, -- no filter keeps everything
       s."rows" AS examples, t.tokens, t.seconds, i.policy AS sampled_by, d.candidate, d.policy AS policy
FROM iterations i
LEFT JOIN runs r ON r.id = i.run
LEFT JOIN decisions d ON d.iteration = i.id
LEFT JOIN asked a ON a.iteration = i.id
LEFT JOIN made m ON m.iteration_id = i.id
LEFT JOIN survived v ON v.iteration = i.id
LEFT JOIN iteration_datasets x ON x.iteration = i.id
LEFT JOIN datasets s ON s.id = x.dataset
LEFT JOIN spent t ON t.run = i.run AND t.iteration = i.number
LEFT JOIN agreed h ON h.run = i.run AND h.iteration = i.number
LEFT JOIN noticed n ON n.run = i.run AND n.iteration = i.number
ORDER BY r.created_at, i.run, i.number;
COMMENT ON VIEW progress IS 'One row for each iteration: what it made, what that cost, and what came of it';
COMMENT ON COLUMN progress.run IS 'id of the run';
COMMENT ON COLUMN progress.name IS 'name of the run''s recipe';
COMMENT ON COLUMN progress.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN progress.low IS 'lower end of the 95% interval of difference';
COMMENT ON COLUMN progress.high IS 'upper end of the 95% interval of difference';
COMMENT ON COLUMN progress.p IS 'of the paired test, two-sided';
COMMENT ON COLUMN progress.agreement IS 'accuracy of the first judge, where there is a gold judge';
COMMENT ON COLUMN progress.notes IS 'what was noticed, one thing in a line: alarms that were crossed';
COMMENT ON COLUMN progress.prompts IS 'prompts that were worked on';
COMMENT ON COLUMN progress.decision IS 'promote, hold or roll back; NULL before the exam';
COMMENT ON COLUMN progress.score IS 'the candidate''s pass@1 in the exam';
COMMENT ON COLUMN progress.difference IS 'to the incumbent''s score';
COMMENT ON COLUMN progress.gained IS 'exam items that only the candidate solves';
COMMENT ON COLUMN progress.lost IS 'exam items that only the incumbent solves';
COMMENT ON COLUMN progress.generated IS 'answers to the prompts';
COMMENT ON COLUMN progress.kept IS 'answers that every filter kept';
COMMENT ON COLUMN progress.examples IS 'rows of the dataset that was made of them';
COMMENT ON COLUMN progress.tokens IS 'of all steps, the exam included';
COMMENT ON COLUMN progress.seconds IS 'of all steps, wall-clock time';
COMMENT ON COLUMN progress.sampled_by IS 'the checkpoint that answered';
COMMENT ON COLUMN progress.candidate IS 'the checkpoint that was trained';
COMMENT ON COLUMN progress.policy IS 'the checkpoint that answers in the next iteration';

CREATE OR REPLACE VIEW lineage AS
WITH RECURSIVE up AS (
    SELECT id AS checkpoint, id AS ancestor, 0 AS steps FROM checkpoints
    UNION ALL
    SELECT up.checkpoint, c.parent, up.steps + 1
    FROM up JOIN checkpoints c ON c.id = up.ancestor WHERE c.parent IS NOT NULL)
SELECT up.checkpoint, up.ancestor, up.steps, c.kind, c.dataset, d."rows", d."real", d.synthetic, c.created_at
FROM up LEFT JOIN checkpoints c ON c.id = up.ancestor LEFT JOIN datasets d ON d.id = c.dataset
ORDER BY up.checkpoint, up.steps;
COMMENT ON VIEW lineage IS 'Each checkpoint with itself and all checkpoints that it descends from, and what each was trained on';
COMMENT ON COLUMN lineage.checkpoint IS 'id of the checkpoint whose ancestry it is';
COMMENT ON COLUMN lineage.ancestor IS 'id of the older checkpoint, or of itself';
COMMENT ON COLUMN lineage.kind IS 'base, scratch or trained';
COMMENT ON COLUMN lineage."real" IS 'rows of the dataset that people wrote';
COMMENT ON COLUMN lineage.synthetic IS 'rows of the dataset that a model wrote';
COMMENT ON COLUMN lineage.created_at IS 'when the ancestor was made, UTC';
COMMENT ON COLUMN lineage.steps IS 'trainings between the two: 0 is the checkpoint itself';
COMMENT ON COLUMN lineage.dataset IS 'what the ancestor was trained on, NULL for a base';
COMMENT ON COLUMN lineage."rows" IS 'rows of that dataset';

CREATE OR REPLACE VIEW trained_on AS
WITH taught AS ( -- each row once, before it is joined with all that descend from it
    SELECT dataset, "position", prompt, origin,
           unnest(CASE WHEN len(generations) = 0 THEN [NULL] ELSE generations END) AS generation FROM examples)
SELECT l.checkpoint, l.ancestor, l.steps, e.dataset, e."position", e.prompt, e.origin, e.generation
FROM taught e JOIN lineage l ON l.dataset = e.dataset;
COMMENT ON VIEW trained_on IS 'Every training row and generation that a checkpoint, or one that it descends from, has learnt from';
COMMENT ON COLUMN trained_on.checkpoint IS 'id of the checkpoint that has learnt';
COMMENT ON COLUMN trained_on.dataset IS 'id of the dataset';
COMMENT ON COLUMN trained_on."position" IS 'of the row in the dataset';
COMMENT ON COLUMN trained_on.prompt IS 'id of the prompt';
COMMENT ON COLUMN trained_on.origin IS 'real or synthetic';
COMMENT ON COLUMN trained_on.ancestor IS 'the checkpoint whose training had the row';
COMMENT ON COLUMN trained_on.steps IS 'trainings between the two: 0 is the checkpoint itself';
COMMENT ON COLUMN trained_on.generation IS 'one line for each generation that the row was made of; NULL for real data';

CREATE OR REPLACE VIEW reached AS
SELECT generation, checkpoint, min(steps) AS steps
FROM trained_on WHERE generation IS NOT NULL GROUP BY generation, checkpoint;
COMMENT ON VIEW reached IS 'The other way round: every checkpoint that has learnt from a generation';
COMMENT ON COLUMN reached.generation IS 'id of the generation';
COMMENT ON COLUMN reached.checkpoint IS 'id of a checkpoint that has learnt from it';
COMMENT ON COLUMN reached.steps IS 'trainings since the one that had it: 0 is that one';

CREATE OR REPLACE VIEW grades_by_checkpoint AS
SELECT g.checkpoint, g.exam, (SELECT any_value(x.name) FROM exams x WHERE x.id = g.exam) AS name, count(*) AS items,
       avg(g.correct / g.n) AS score, count(*) FILTER (2 * g.correct > g.n) AS solved, sum(g.n)::BIGINT AS answers,
       sum(g.unscored)::BIGINT AS unscored, avg(g.majority::DOUBLE) AS majority
FROM grades g GROUP BY g.checkpoint, g.exam ORDER BY g.exam, score DESC;
COMMENT ON VIEW grades_by_checkpoint IS 'How each checkpoint did in each exam';
COMMENT ON COLUMN grades_by_checkpoint.checkpoint IS 'id of the checkpoint';
COMMENT ON COLUMN grades_by_checkpoint.exam IS 'id of the exam';
COMMENT ON COLUMN grades_by_checkpoint.items IS 'items of the exam';
COMMENT ON COLUMN grades_by_checkpoint.answers IS 'answers to all items';
COMMENT ON COLUMN grades_by_checkpoint.name IS 'of the exam';
COMMENT ON COLUMN grades_by_checkpoint.score IS 'pass@1: mean over items of the share of right answers';
COMMENT ON COLUMN grades_by_checkpoint.solved IS 'items with most answers right';
COMMENT ON COLUMN grades_by_checkpoint.unscored IS 'answers without a judgment, which count as not right';
COMMENT ON COLUMN grades_by_checkpoint.majority IS 'share of items whose most frequent final answer is right';

CREATE OR REPLACE VIEW flips AS
SELECT i.run, r.name, i.number AS iteration, d.exam, new.prompt,
       CASE WHEN 2 * new.correct > new.n THEN 'gained' ELSE 'lost' END AS flip,
       new.correct / new.n AS candidate, old.correct / old.n AS incumbent, p.chat, p.reference
FROM decisions d
JOIN iterations i ON i.id = d.iteration
LEFT JOIN runs r ON r.id = i.run
JOIN grades new ON new.checkpoint = d.candidate AND new.exam = d.exam
JOIN grades old ON old.checkpoint = d.incumbent AND old.exam = d.exam AND old.prompt = new.prompt
LEFT JOIN prompts p ON p.id = new.prompt
WHERE (2 * new.correct > new.n) <> (2 * old.correct > old.n)
ORDER BY i.run, i.number, flip, new.prompt;
COMMENT ON VIEW flips IS 'Exam items that a candidate solves and its incumbent does not, or the other way round';
COMMENT ON COLUMN flips.run IS 'id of the run';
COMMENT ON COLUMN flips.name IS 'name of the run''s recipe';
COMMENT ON COLUMN flips.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN flips.exam IS 'id of the exam';
COMMENT ON COLUMN flips.prompt IS 'id of the prompt';
COMMENT ON COLUMN flips.chat IS 'the prompt''s messages';
COMMENT ON COLUMN flips.reference IS 'the known answer, or NULL';
COMMENT ON COLUMN flips.flip IS 'gained or lost; an item is solved with most of its answers right';
COMMENT ON COLUMN flips.candidate IS 'share of right answers of the candidate';
COMMENT ON COLUMN flips.incumbent IS 'share of right answers of the incumbent';

CREATE OR REPLACE VIEW score_distribution AS
WITH counts AS (
    SELECT i.id, o.judge, round(o.score, 1) AS score, count(*) AS answers
    FROM iterations i JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw
    WHERE EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = i.id AND p.prompt = o.prompt) GROUP BY ALL)
SELECT i.run, r.name, i.number AS iteration, c.judge, c.score, c.answers,
       c.answers / sum(c.answers) OVER (PARTITION BY i.run, i.number, c.judge) AS share
FROM counts c JOIN iterations i ON i.id = c.id LEFT JOIN runs r ON r.id = i.run
ORDER BY i.run, i.number, c.judge, c.score;
COMMENT ON VIEW score_distribution IS 'How many of each iteration''s answers got which score from each judge';
COMMENT ON COLUMN score_distribution.run IS 'id of the run';
COMMENT ON COLUMN score_distribution.name IS 'name of the run''s recipe';
COMMENT ON COLUMN score_distribution.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN score_distribution.judge IS 'name of the judge';
COMMENT ON COLUMN score_distribution.score IS 'mean of the valid votes, to one decimal; NULL if there is none';
COMMENT ON COLUMN score_distribution.answers IS 'answers with that score';
COMMENT ON COLUMN score_distribution.share IS 'of all answers that the judge has seen in the iteration';

CREATE OR REPLACE VIEW disagreements AS
WITH said AS (
    SELECT i.run, i.number, o.checkpoint, o.draw, o.prompt, o.generation, o.judge, o.score
    FROM iterations i JOIN opinions o ON o.checkpoint = i.policy AND o.draw = i.draw
    WHERE o.score IS NOT NULL AND EXISTS (SELECT 1 FROM proposals p WHERE p.iteration = i.id AND p.prompt = o.prompt)),
levels AS (
    SELECT run, number, judge, avg(score) AS mean, stddev_samp(score) AS deviation
    FROM said GROUP BY run, number, judge HAVING deviation > 0),
placed AS (
    SELECT s.*, (s.score - l.mean) / l.deviation AS place FROM said s JOIN levels l USING (run, number, judge)),
apart AS (
    SELECT run, number, checkpoint, draw, prompt, generation, max(place) - min(place) AS distance,
           arg_max(judge, place) AS kindest, arg_max(score, place) AS kindest_score,
           arg_min(judge, place) AS strictest, arg_min(score, place) AS strictest_score
    FROM placed GROUP BY run, number, checkpoint, draw, prompt, generation HAVING count(*) > 1)
SELECT a.run, r.name, a.number AS iteration, a.prompt, a.generation, g."text", a.distance, a.kindest, a.kindest_score,
       a.strictest, a.strictest_score
FROM apart a LEFT JOIN runs r ON r.id = a.run
JOIN generations g ON g.id = a.generation AND g.checkpoint = a.checkpoint AND g.draw = a.draw;
COMMENT ON VIEW disagreements IS 'Each answer that several judges have scored, and how far apart they are, whatever their scales';
COMMENT ON COLUMN disagreements.run IS 'id of the run';
COMMENT ON COLUMN disagreements.name IS 'name of the run''s recipe';
COMMENT ON COLUMN disagreements.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN disagreements.prompt IS 'id of the prompt';
COMMENT ON COLUMN disagreements.generation IS 'id of the answer';
COMMENT ON COLUMN disagreements."text" IS 'what the answer says';
COMMENT ON COLUMN disagreements.distance IS 'of the kindest from the strictest judge, each in standard deviations of its own scores';
COMMENT ON COLUMN disagreements.kindest IS 'the judge that puts the answer highest among all that it has scored in the iteration';
COMMENT ON COLUMN disagreements.kindest_score IS 'its score';
COMMENT ON COLUMN disagreements.strictest IS 'the judge that puts it lowest';
COMMENT ON COLUMN disagreements.strictest_score IS 'its score';

CREATE OR REPLACE VIEW words AS
SELECT j.judge, j.vote, j.score, j.status, j.detail, w."text" AS words, w.tokens, w.checkpoint AS speaker, j.trace,
       j.generation, g."text" AS answer, j.prompt, j.checkpoint, j.draw
FROM judgments j
JOIN generations w ON w.id = j.trace AND w.role NOT IN ('answer', 'exam') -- whose texts then need not be read
LEFT JOIN generations g ON g.id = j.generation AND g.checkpoint = j.checkpoint AND g.draw = j.draw;
COMMENT ON VIEW words IS 'Each vote for which a judge wrote something, with what it wrote and about which answer';
COMMENT ON COLUMN words.judge IS 'name of the judge';
COMMENT ON COLUMN words.vote IS 'which of the judge''s votes on the answer, from 0';
COMMENT ON COLUMN words.score IS 'what was read of the words, NULL unless status is ok';
COMMENT ON COLUMN words.status IS 'ok, unparsable, timeout, error or refused';
COMMENT ON COLUMN words.detail IS 'what the judge read or why it failed, or NULL';
COMMENT ON COLUMN words.words IS 'what the judge wrote';
COMMENT ON COLUMN words.tokens IS 'tokens of the words';
COMMENT ON COLUMN words.speaker IS 'id of the checkpoint that wrote them';
COMMENT ON COLUMN words.trace IS 'id of the generation that holds the words';
COMMENT ON COLUMN words.generation IS 'id of the answer that was judged; of a judgment, where judgments are judged';
COMMENT ON COLUMN words.answer IS 'its text';
COMMENT ON COLUMN words.prompt IS 'id of the prompt of the answer';
COMMENT ON COLUMN words.checkpoint IS 'id of the checkpoint that wrote the answer';
COMMENT ON COLUMN words.draw IS 'id of the sampling parameters and seed of the answer';

CREATE OR REPLACE VIEW verdicts AS
WITH parts AS (
    SELECT *, unnest([a, b, trace]) AS id, unnest(['a', 'b', 'words']) AS part FROM comparisons)
SELECT p.judge, p."order", p.vote, p.verdict, p.status, p.a, p.b, any_value(g."text") FILTER (part = 'a') AS a_text,
       any_value(g."text") FILTER (part = 'b') AS b_text, any_value(g."text") FILTER (part = 'words') AS words, p.trace
FROM parts p -- first the rows are found by their ids, then only these are read, which lie side by side
LEFT JOIN generations of_p ON of_p.id = p.id LEFT JOIN generations g ON g.rowid = of_p.rowid
GROUP BY p.judge, p."order", p.vote, p.verdict, p.status, p.a, p.b, p.trace;
COMMENT ON VIEW verdicts IS 'Each comparison of two generations, with what they say and what the judge wrote';
COMMENT ON COLUMN verdicts.judge IS 'name of the judge';
COMMENT ON COLUMN verdicts."order" IS 'ab or ba: which of the two was shown first';
COMMENT ON COLUMN verdicts.vote IS 'which of the judge''s votes on the pair in that order, from 0';
COMMENT ON COLUMN verdicts.verdict IS 'a, b or tie; NULL unless status is ok';
COMMENT ON COLUMN verdicts.status IS 'ok, unparsable, timeout, error or refused';
COMMENT ON COLUMN verdicts.a IS 'id of the one generation';
COMMENT ON COLUMN verdicts.b IS 'id of the other';
COMMENT ON COLUMN verdicts.a_text IS 'what the one says';
COMMENT ON COLUMN verdicts.b_text IS 'what the other says';
COMMENT ON COLUMN verdicts.words IS 'what the judge wrote, or NULL';
COMMENT ON COLUMN verdicts.trace IS 'id of the generation that holds the words';

CREATE OR REPLACE VIEW spending AS
SELECT l.run, l.name, l.iteration, l.step,
       CASE l.step WHEN 'propose' THEN 'proposal' WHEN 'sample' THEN 'answer' WHEN 'judge' THEN 'judgment'
                   WHEN 'examine' THEN 'exam' END AS role,
       l.tokens, l.seconds, l.seconds / nullif(sum(l.seconds) OVER turn, 0) AS second_share, 100 * d.difference AS points,
       100 * d.difference / nullif(sum(l.tokens) OVER turn / 1000, 0) AS points_per_thousand_tokens
FROM ledger l
LEFT JOIN iterations i ON i.run = l.run AND i.number = l.iteration
LEFT JOIN decisions d ON d.iteration = i.id
WINDOW turn AS (PARTITION BY l.run, l.iteration)
ORDER BY l.run, l.iteration, l.first_at;
COMMENT ON VIEW spending IS 'Where the tokens and seconds of each iteration went, and what they bought';
COMMENT ON COLUMN spending.run IS 'id of the run';
COMMENT ON COLUMN spending.name IS 'name of the run''s recipe';
COMMENT ON COLUMN spending.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN spending.step IS 'name of the step';
COMMENT ON COLUMN spending.role IS 'role of the generations that the step makes, NULL if it makes none';
COMMENT ON COLUMN spending.tokens IS 'tokens that were generated or trained on';
COMMENT ON COLUMN spending.seconds IS 'wall-clock time, all attempts together';
COMMENT ON COLUMN spending.second_share IS 'of the iteration''s seconds';
COMMENT ON COLUMN spending.points IS 'percentage points of the exam that the iteration''s candidate is above its incumbent';
COMMENT ON COLUMN spending.points_per_thousand_tokens IS 'the same for each thousand tokens of the whole iteration';

CREATE OR REPLACE VIEW curves AS
SELECT i.run, r.name, i.number AS iteration, m.checkpoint, m.name AS measure, m.step, m."value"
FROM metrics m
JOIN decisions d ON d.candidate = m.checkpoint
JOIN iterations i ON i.id = d.iteration
LEFT JOIN runs r ON r.id = i.run
ORDER BY i.run, i.number, m.name, m.step;
COMMENT ON VIEW curves IS 'What each training told of itself, step by step';
COMMENT ON COLUMN curves.run IS 'id of the run';
COMMENT ON COLUMN curves.name IS 'name of the run''s recipe';
COMMENT ON COLUMN curves.iteration IS 'number of the turn, from 0';
COMMENT ON COLUMN curves.checkpoint IS 'id of the checkpoint that was trained';
COMMENT ON COLUMN curves.measure IS 'what is measured, as loss, lr, grad_norm, tokens, rewards/margins';
COMMENT ON COLUMN curves.step IS 'of the optimizer, from 1';
COMMENT ON COLUMN curves."value" IS 'NULL where the training told none';
