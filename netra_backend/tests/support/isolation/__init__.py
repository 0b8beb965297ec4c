"""Two tenants whose rows collide on purpose, and what a statement does to the one when the other asks.

`rows` are the tenants' rows, `worlds` the databases with one of them and with both, `cases` what each statement is asked,
`mutants` the statements with a tenant taken out, `judging` the verdict: with another tenant there, everything is as without.
"""
