# A rollback gives back what was live before: an image, or the configuration and the secrets of the same one.
host app-1
spec database none
spec bake 0s
secrets TOKEN
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from no slot to blue, verified through nginx
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
succeeded: notes:1 is live in blue

spec body_limit 20m
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in green; the slot is empty
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 site: nginx serves notes.example on port 80 (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from blue to green, verified through nginx
s7 wave 7 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s8 wave 8 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again
succeeded: notes:1 is live in green

secrets TOKEN
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in green: this deploys it again
succeeded: notes:1 is live in blue

rollback
----
s1 wave 1 app-1 health: waits for 2 healthy answers in a row from /health
s2 wave 2 app-1 switch: switches traffic from blue to green, verified through nginx
warning: notes:1 stays: what comes back is version 2 of the secrets of dep_00000000000000000000000002

finish
----
succeeded: notes:1 is live in green

rollback
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts 1b0e989 in blue again
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health
s5 wave 5 app-1 site: nginx serves notes.example as before (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from green to blue, verified through nginx
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch
warning: notes:1 stays: what comes back is the configuration of dep_00000000000000000000000001

finish
----
succeeded: notes:1 is live in blue

# Of what was live, this is the first: forward has a name.
rollback
----
refused: notes/production has no earlier release to roll back to
  why: notes:1 is the first release that was live
  next: lockstep rollback notes/production --to dep_00000000000000000000000003    # to notes:1, which was live too

rollback to 3
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts 1b0e989 in green again
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health
s5 wave 5 app-1 site: nginx serves notes.example as before (one reload: clients with idle connections to this nginx may have to reconnect)
s6 wave 6 app-1 switch: switches traffic from blue to green, verified through nginx
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch
warning: notes:1 stays: what comes back is the configuration and version 3 of the secrets of dep_00000000000000000000000003

finish
----
succeeded: notes:1 is live in green

# What was deployed twice is one state.
deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in blue; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of green to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in green: this deploys it again
succeeded: notes:1 is live in blue

deploy notes:1
finish
----
s1 wave 1 app-1 preflight: checks tools, disk, ports, image and database; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts web of 1b0e989 in green; replaces 1b0e989 there
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health, for at most 1 min
s5 wave 5 app-1 switch: switches traffic from blue to green, verified through nginx
s6 wave 6 app-1 drain: waits up to 30.0 s for the requests of blue to end; the slot stays warm for a rollback (housekeeping)
s7 wave 7 app-1 clean up: removes images and snapshots that no rollback needs (housekeeping)
warning: notes:1 is already live in blue: this deploys it again
succeeded: notes:1 is live in green

rollback
----
s1 wave 1 app-1 preflight: checks tools, ports and image; changes nothing
s2 wave 2 app-1 image: gets notes:1 (1b0e989) unless the host has it
s3 wave 3 app-1 start: starts 1b0e989 in blue again
s4 wave 4 app-1 health: waits for 3 healthy answers in a row from /health
s5 wave 5 app-1 switch: switches traffic from green to blue, verified through nginx
warning: notes:1 is no longer warm: it is started first, which takes longer than a switch
warning: notes:1 stays: what comes back is version 2 of the secrets of dep_00000000000000000000000002
