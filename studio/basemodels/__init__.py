"""Getting base models: what is there of each, downloads as jobs, and removing what was downloaded.

holdings.py   what of a model is on this computer, in words; removing it
fetching.py   one pinned file inside a job: also for taggers and models that measure
download.py   the download as a job: resumed, hashes checked, gated models explained
"""
