"""The files of the page that `write_attention_page` writes."""
