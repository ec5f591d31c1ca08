lors
