"""What a run leaves in its folder, and what is made of that when it is over.

`run_folder.py` knows the files of a run, locks the folder and decides whether a run begins, goes on or is finished.
`contents.py` is what a run was trained on, by checksums, so that it goes on with the same text at another place.
`curves.py` reads metrics.csv; `report.py` draws it and `model_card.py` writes the card. `compare.py` puts runs side by
side from their files alone, without torch. `pair.py` finds a forward and a backward model that belong together, and
`publishing.py` makes a folder for the Hugging Face Hub.
"""
