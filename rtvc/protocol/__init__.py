"""Wire protocols: codecs used by server and load test alike."""
