# Bad input is refused before anything starts, each time with a way on.
deploy notes:1
----
refused: there is no host
  why: no agent has joined this coordinator
  next: lockstep up, or lockstep host token

rollback
----
refused: notes/production has nothing to roll back
  why: nothing has been deployed to it
  next: lockstep deploy production

host app-1
spec require JWT_SECRET
deploy notes:1
----
refused: notes/production lacks JWT_SECRET
  why: the application needs it, and neither `env` nor the imported secrets have it
  next: add it to .env.production, then: lockstep secret import production

secrets DATABASE_URL JWT_SECRET
spec branch main
deploy notes:1 from feature
----
refused: notes/production is deployed from the branch main
  why: this checkout is on feature
  next: git switch main, or add --allow-branch

deploy notes:1 from feature allow-branch
----
s1 wave 1 app-1 preflight: nothing: looks at tools, disk, ports, image and database
s2 wave 2 app-1 image: notes:1 (1b0e989) is on the host
s3 wave 3 app-1 start: web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: nothing: asks /health until 3 good answers in a row, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload, before there is any traffic)
s6 wave 6 app-1 switch: traffic goes from no slot to blue, proved through nginx
s7 wave 7 app-1 bake: nothing: blue is watched under traffic for 20.0 s
s8 wave 8 app-1 clean up: images and snapshots that no rollback needs are removed (housekeeping)

schema 3 dirty
deploy notes:1
----
refused: the schema of notes/production is dirty at version 3
  why: migration 3 began and did not end, so nobody knows how much of it is there
  next: look at the database and mend it by hand, then say what is there: UPDATE schema_migrations SET version = N, dirty = false; N is 3 when all of it is there, and the version before it when nothing is

schema unreachable
deploy notes:1
----
refused: the database of notes/production cannot be read from app-1
  why: connection refused
  next: check DATABASE_URL and that PostgreSQL runs and lets app-1 in

schema 0
spec host app-2
deploy notes:1
----
refused: there is no host app-2
  why: the hosts that have joined are: app-1
  next: lockstep host list

host app-3 app
spec hosts app-1 app-3
deploy notes:1
----
refused: app-3 is no host for lb
  why: deployment.yml names it under lb:, and it has joined for app
  next: name another under lb:, of those that lockstep host list shows
