"""Readers turn a patient's files into numpy arrays: one file a kind (slide, volume, image, table).

Every reader raises `UnreadableError` with one clear line on a file that it cannot read rightly, and is bounded in
memory: what a header declares is checked before anything is decoded.
"""
