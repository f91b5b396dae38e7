"""What is said of a tracking server never holds its password."""

from xmadapter.tracking.client import masked, reason

SECRET = "https://me:s3cret@mlflow.example.org:5000/api"


def test_a_password_in_an_address_is_hidden():
    assert masked(SECRET) == "https://***@mlflow.example.org:5000/api"
    assert masked("sqlite:///runs/mlflow.db") == "sqlite:///runs/mlflow.db"


def test_a_password_in_what_a_client_raised_is_hidden():
    told = reason(ConnectionError(f"no answer from {SECRET}, nor from postgresql://you:other@db/mlflow\nsecond line"))
    assert told == (
        "ConnectionError: no answer from https://***@mlflow.example.org:5000/api, nor from postgresql://***@db/mlflow"
    )
