# Bad input is refused before anything starts, each time with a way on.
deploy notes:1
----
refused: no host has joined
  why: a deployment needs at least one host with an agent
  next: lockstep up    # as root: makes this machine a host
    or: lockstep host token    # prints the command for another machine

rollback
----
refused: notes/production has nothing to roll back
  why: nothing has been deployed to it
  next: lockstep deploy notes/production --image IMAGE

host app-1
spec require JWT_SECRET
deploy notes:1
----
refused: notes/production lacks JWT_SECRET
  why: deployment.yml requires it, and neither `env` nor the imported secrets have it
  next: lockstep secret set notes/production JWT_SECRET < FILE    # or add it to the .env file, which the next deployment imports

secrets DATABASE_URL JWT_SECRET
spec branch main
deploy notes:1 from feature
----
refused: notes/production must be deployed from the branch main
  why: this checkout is on feature
  next: git switch main
    or: lockstep deploy notes/production --image notes:1 --allow-branch    # deploys this branch

deploy notes:1 from HEAD
----
refused: notes/production must be deployed from the branch main
  why: this checkout is on no branch, and no CI system says which one it was
  next: lockstep deploy notes/production --image notes:1 --branch main    # if it is of main

deploy notes:1 from feature allow-branch
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 bake: watches blue under traffic for 20.0 s
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)

schema 3 dirty
deploy notes:1
----
refused: the database schema of notes/production is dirty at version 3
  why: migration 3 began and did not finish, so it may be applied in part
  next: complete or revert it by hand, then: UPDATE schema_migrations SET version = N, dirty = false; N is 3 if the migration is complete, and the version before it if it is reverted

schema unreachable
deploy notes:1
----
refused: cannot read the database of notes/production from app-1
  why: connection refused
  next: check DATABASE_URL, that PostgreSQL runs, and that its pg_hba.conf admits app-1

schema 0
spec host app-2
deploy notes:1
----
refused: there is no host app-2
  why: hosts that have joined: app-1
  next: lockstep host list

host app-3 app
spec hosts app-1 app-3
deploy notes:1
----
refused: app-3 does not have the role lb
  why: deployment.yml names it under lb:, but it joined as app
  next: lockstep host list    # name one with this role under lb:
