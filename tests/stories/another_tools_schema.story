# Rails, Ecto and others keep a table schema_migrations of their own. It is left alone, and the database gets its
# snapshot before each deployment: when that tool migrates is not known here.
host app-1
schema foreign
deploy notes:1
----

finish
deploy notes:2
----

finish
rollback
----

# What an image brings for golang-migrate is not applied beside it.
migration 1 create_notes
deploy notes:3
----

