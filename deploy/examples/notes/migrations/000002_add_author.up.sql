-- Expand only: a release that knows nothing of authors goes on writing notes.
ALTER TABLE notes ADD COLUMN author text NOT NULL DEFAULT 'anonymous';
