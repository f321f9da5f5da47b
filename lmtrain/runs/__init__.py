"""The files in the folder of a run, and the report, card and comparisons that are made of them.

`run_folder.py` knows the files of a run, locks the folder, and decides whether a run begins, is resumed or is finished.
`contents.py` records checksums of the text, so that a run is resumed with the same text, also from another place.
`curves.py` reads metrics.csv; `report.py` draws it, and `model_card.py` writes the card from model_card.md.jinja.
`compare.py` compares runs from their files alone, without torch. `pair.py` finds a forward and a backward model that
belong together, and `publishing.py` makes a folder for the Hugging Face Hub.
"""
