CREATE TABLE notes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE jobs (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text        NOT NULL,
    note_id    bigint      REFERENCES notes (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    runs       integer     NOT NULL DEFAULT 0,
    done_by    text,
    done_at    timestamptz
);

CREATE INDEX jobs_waiting ON jobs (id) WHERE done_at IS NULL;
