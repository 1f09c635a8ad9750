"""How near imputers come to cells that are known: observed cells are hidden, imputed and compared.

`hiding` says which cells, `experiment` fits the methods and fills, `downstream` trains classifiers after them,
`measures` compares under resampling weights, `benchmark` puts values and intervals in one table, `figures`,
`report` and `text` show it.
"""
