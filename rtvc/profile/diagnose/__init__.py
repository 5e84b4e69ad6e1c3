"""Why a voice server is slow: from measurements to a ranked verdict."""
