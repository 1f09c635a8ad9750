"""`python -m mmcli`."""

from mmcli.cli import main

main()
