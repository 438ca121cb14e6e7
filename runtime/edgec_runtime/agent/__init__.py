"""The device's end of `edgec flash`: requests on standard input, answers on standard output (`edgec-rt agent`).

One file a concern: `frames` (what goes over the line), `asked` (requests, read strictly), `server` (the loop),
`transfer` (a bundle comes in), `bases` (which files a delta can be made against), `running` (one run of an app).
"""
