lors methods lors
