"""Audits: a file each, with one frozen value `PROBE`; its name on the command line is the file's. See README.md."""
