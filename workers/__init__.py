"""The compute side of Vitrine: pure PyTorch except celery.py and tasks.py. Read top to bottom it is the pipeline."""
