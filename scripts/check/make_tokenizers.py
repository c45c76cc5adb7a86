#!/usr/bin/env python3
"""Writes tests/golden/tokenizers: small tokenizers of every kind that text/ reads, and what the libraries they are of say.

usage: scripts/check/make_tokenizers.py [FOLDER]

Each folder NAME holds the tokenizer's files and cases.txt, a line a case, fields with tabs between:
    flags    0, 1 (CODEC_SPECIAL), 3 (and CODEC_ADD)
    text     hexadecimal
    ids      decimal, spaces between
    decoded  hexadecimal, special tokens left out; then the same with them. "=": the text; ".": the field before; "-": the library
             does not say
The trainer of WordPiece does not give the same twice; what is in one folder belongs together. By Hugging Face's tokenizers, sentencepiece and tiktoken; versions are in cases.txt's first line. Text that they learn from is
this repository's and a few lines below.
"""
import base64
import glob
import io
import json
import os
import random
import re
import sys

import sentencepiece
import tiktoken
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

LINES = [
    "Ein Bär fällt über die Straße; ÄÖÜ äöü ß, naïve café, Ångström, façade.",
    "Привет, мир! Как дела? Это простой текст для обучения.",
    "你好,世界。今天天气很好,我们去公园散步吧。",
    "こんにちは世界。これはテストです。ひらがなとカタカナ。",
    "안녕하세요 세계. 이것은 시험입니다.",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "مرحبا بالعالم، هذا اختبار.",
    "שלום עולם, זה מבחן.",
    "สวัสดีชาวโลก นี่คือการทดสอบ",
    "😀 😁 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ emoji",
    "1234567890 3.14159 1,000,000 0x7fff ½ ² Ⅷ ١٢٣",
    "def f(x):\n\treturn x ** 2  # comment\n\n\nif __name__ == '__main__':\n    print(f(3))",
    "I'm you're he'll we've they'd it's don't I'M YOU'RE",
    "    indented     by   spaces\t\ttabs \r\n windows line\r\n",
]

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
DIGITS = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")


def corpus():
    lines = list(LINES) * 8
    for path in sorted(glob.glob(os.path.join(ROOT, "docs", "*.md")))[:6] + [os.path.join(ROOT, "README.md")]:
        with open(path, encoding="utf-8") as f:
            lines += f.read().split("\n")[:200]
    return lines


# ---- texts

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCXYZ", "0123456789", " ", "  ", "\t\n\r", "\u00a0\u2003\u3000\u0085\u2028\u1680\u180e\u200b",
    "'\"`.,;:!?()[]{}<>|/\\@#$%^&*-_=+~", "äöüßéèñçøåÅİıſKŉǅﬁ", "абвгдеёжзАБВ", "你好世界今天天气", "ひらがなカタカナｶﾞ", "안녕하세요",
    "नमस्ते\u0930\u094d", "مرحبا", "שלום", "สวัสดี", "😀👍🏽👩\u200d👧❤\ufe0f🇩🇪", "\u0301\u0308\u0327\u0323\u20dd\u0903",
    "½²Ⅷ١٢٣①㊿", "\u0000\u0001\u001f\u007f\u009f\ufeff\ufffd\ufffe", "\U00010348\U0001d54f\U00020000\U000e0001\U0010fffd",
    "ﷺｆｕｌｌ㍿Ⓐ㎏…", "\u2581", "<>|_", "e\u0301", "가\u1100\u1161\u11a8", "\ud7a3\uac00", "‿⁀﹍＿", "ʰˀ゙゚ー",
]
FIXED = [
    "", " ", "  ", "   ", "\n", "\n\n\n", "\t", "\t\t", "Hello", " Hello", "Hello world", " Hello  world ", "Hello, y'all! How are you?",
    "3", "33", "333", "3333", "33333", "333333333", "a\u0301\u0301b", "Cửa Việt", "I'm I'M i'll I'LL 'S 'ſ", "\u2581a\u2581\u2581b",
    "a\r\nb\r\n\r\nc", "<s>", "</s>", "<unk>", "<s>Hello</s>", " <s> Hello </s> ", "a<s>b", "<|im_start|>user\nHi<|im_end|>\n",
    "<|im_start|><|im_end|>", "<|im_start", "<0x41>", "x<0x0A>y", "[CLS] what [MASK] is [SEP]", "[MASK]ed", "a[MASK]", " [MASK] ",
    "<user>", "<user>x", "y <user>", "the user said <user> and left", "UNKNOWN", "ÀÉÎ àéî", "ΑΣ ΑΣΑ σς", "İstanbul ISTANBUL",
    "a" * 70, "ab" * 40, " " * 70, "\n" * 70, "word " * 20, "\u4f60" * 30, "\U0001f600" * 10, "don't've", "x's 's", "\u00ad soft\u00adhyphen",
    "tab\tsep\tvalue", "https://example.org/a_b?c=d&e=f#g", "{\"a\": [1, 2.5e-3, null]}", "\ufeffBOM", "zero\u200bwidth\u200djoin",
]


def texts(seed, count):
    r = random.Random(seed)
    out = [t.encode() for t in FIXED] if seed == 1 else []
    specials = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "[CLS]", "[MASK]", "<user>", "<0x41>"]
    words = [w for line in corpus() for w in line.split(" ") if w]
    while len(out) < count:
        parts = []
        for _ in range(r.randint(1, 12)):
            k = r.random()
            if k < 0.35:
                parts.append(r.choice(words).encode())
            elif k < 0.45:
                parts.append(r.choice(specials).encode())
            elif k < 0.5:
                parts.append(bytes(r.randrange(256) for _ in range(r.randint(1, 3))))
            elif k < 0.55:
                parts.append(chr(r.choice([r.randrange(0x20, 0xd800), r.randrange(0x20, 0x3000), r.randrange(0x1f000, 0x1fb00)])).encode())
            else:
                a = r.choice(ALPHABETS)
                parts.append("".join(r.choice(a) for _ in range(r.randint(1, 6))).encode("utf-8", "replace"))
            if r.random() < 0.4:
                parts.append(b" ")
        out.append(b"".join(parts))
    return out


def clean(b):
    """U+FFFD for every byte that is no UTF-8, as codec_encode has it."""
    out = ""
    i = 0
    while i < len(b):
        for k in (1, 2, 3, 4):
            try:
                out += b[i:i + k].decode()
                break
            except UnicodeDecodeError:
                pass
        else:
            out += "\ufffd"
            k = 1
        i += k
    return out


# ---- what the libraries say

class Hugging:
    def __init__(self, tok):
        self.tok = tok

    def files(self):
        return {"tokenizer.json": self.tok.to_str().encode()}

    def encode(self, text, flags):
        self.tok.encode_special_tokens = not flags & 1
        return self.tok.encode(text, add_special_tokens=bool(flags & 2)).ids

    def decode(self, ids, skip):
        return self.tok.decode(ids, skip_special_tokens=skip).encode("utf-8", "replace")


class Sentence:
    def __init__(self, path, config=None, extra=()):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=path)
        self.bytes = open(path, "rb").read()
        self.config = config
        n = self.sp.get_piece_size()
        self.control = {self.sp.id_to_piece(i): i for i in range(n) if self.sp.is_control(i)}
        self.extra = {s: n + 3 + i for i, s in enumerate(extra)}
        self.control.update(self.extra)
        if extra:
            config["added_tokens_decoder"] = {str(i): {"content": s, "special": True} for s, i in self.extra.items()}
        self.split = re.compile("(" + "|".join(re.escape(s) for s in sorted(self.control, key=len, reverse=True)) + ")")

    def files(self):
        out = {"tokenizer.model": self.bytes}
        if self.config:
            out["tokenizer_config.json"] = json.dumps(self.config).encode()
        return out

    def encode(self, text, flags):
        if not flags & 1:
            ids = self.sp.encode(text)
        else:
            ids = []
            for part in self.split.split(text):
                ids += [self.control[part]] if part in self.control else self.sp.encode(part)
        if flags & 2 and self.config:
            ids = [self.sp.bos_id()] + ids
        return ids

    def decode(self, ids, skip):
        if not skip and any(i in self.control.values() for i in ids):
            return None  # the library leaves them out
        return self.sp.decode([i for i in ids if i not in self.extra.values()]).encode()


class Ranks:
    def __init__(self, ranks, pattern, special):
        self.ranks, self.special = ranks, special
        self.enc = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.pattern = pattern

    def files(self):
        lines = b"".join(base64.b64encode(k) + b" %d\n" % v for k, v in sorted(self.ranks.items(), key=lambda x: x[1]))
        config = {"pattern": self.pattern, "added_tokens_decoder": {
            str(v): {"content": k, "special": True, "normalized": False} for k, v in self.special.items()}}
        return {"tokenizer.model": lines, "tokenizer_config.json": json.dumps(config, indent=1).encode()}

    def encode(self, text, flags):
        return self.enc.encode(text, allowed_special="all", disallowed_special=()) if flags & 1 else self.enc.encode_ordinary(text)

    def decode(self, ids, skip):
        return self.enc.decode([i for i in ids if not skip or i not in self.special.values()]).encode()


# ---- the tokenizers

def byte_level(vocab, pre, norm=None, whole=False, specials=(), post=None, add=()):
    tok = Tokenizer(models.BPE())
    if norm:
        tok.normalizer = norm
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    if whole:
        j = json.loads(tok.to_str())
        j["model"]["ignore_merges"] = True
        tok = Tokenizer.from_str(json.dumps(j))
    tok.add_special_tokens(list(specials))
    tok.add_tokens(list(add))
    if post:
        tok.post_processor = post(tok)
    return Hugging(tok)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def bos(name):
    return lambda tok: processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single=name + " $A", pair=name + " $A $B", special_tokens=[(name, tok.token_to_id(name))])])


CHAT = ["<|im_start|>", "<|im_end|>"]
USER = [AddedToken("<user>", normalized=True), AddedToken("[MASK]", lstrip=True, rstrip=True, single_word=True, normalized=False)]


def sentence(folder, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
    path = os.path.join(folder, "spm%d.model" % len(glob.glob(os.path.join(folder, "spm*"))))
    with open(path, "wb") as f:
        f.write(out.getvalue())
    return path


def from_sentence(path, legacy):
    """A tokenizer.json as the conversion of a SentencePiece BPE model makes it: by normalizer, or by Metaspace."""
    sp = sentencepiece.SentencePieceProcessor(model_file=path)
    n = sp.get_piece_size()
    vocab = {sp.id_to_piece(i): i for i in range(n)}
    merges = []
    for piece, i in vocab.items():
        if not sp.is_control(i) and not sp.is_byte(i) and not sp.is_unknown(i):
            for k in range(1, len(piece)):
                if piece[:k] in vocab and piece[k:] in vocab:
                    merges.append((sp.get_score(i), piece[:k], piece[k:]))
    merges.sort(key=lambda m: (-m[0], vocab[m[1]], vocab[m[2]]))
    tok = Tokenizer(models.BPE(vocab, [(a, b) for _, a, b in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tail = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if legacy:
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tok.decoder = decoders.Sequence(tail)
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.add_tokens([AddedToken("<user>", normalized=True), AddedToken("[MASK]", normalized=False)])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])])
    return Hugging(tok)


def unigram(path, precompiled):
    """As T5 and the like are converted: Precompiled, Metaspace, </s> behind."""
    sp = sentencepiece.SentencePieceProcessor(model_file=path)
    vocab = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    tok = Tokenizer(models.Unigram(vocab, sp.unk_id(), False))
    steps = [normalizers.Precompiled(precompiled)] if precompiled else [normalizers.NFKC()]
    tok.normalizer = normalizers.Sequence(steps + [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tok.decoder = decoders.Metaspace(prepend_scheme="always")
    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.add_tokens([AddedToken("[MASK]", lstrip=True, normalized=False)])
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", sp.eos_id())])
    return Hugging(tok)


def wordpiece():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False, limit_alphabet=150))
    tok.post_processor = processors.BertProcessing(("[SEP]", tok.token_to_id("[SEP]")), ("[CLS]", tok.token_to_id("[CLS]")))
    return Hugging(tok)


def words(pre, suffix=None, norm=None):
    more = {"end_of_word_suffix": suffix} if suffix else {}
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False, **more))
    tok.pre_tokenizer = pre
    if norm:
        tok.normalizer = norm
    tok.decoder = decoders.BPEDecoder(suffix=suffix or "</w>")
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>"], show_progress=False, limit_alphabet=120, **more))
    return Hugging(tok)


def kinds(folder, large=False):
    """Name and maker of each; large: those whose files are too large to be kept, too."""
    yield "gpt2", byte_level(400, pre_tokenizers.ByteLevel(add_prefix_space=False), specials=["<|endoftext|>", "<s>"])
    yield "llama3", byte_level(420, split(CL100K), whole=True, specials=CHAT + ["<s>"], add=USER, post=bos("<s>"))
    yield "qwen2", byte_level(420, split(DIGITS), norm=normalizers.NFC(), specials=CHAT, add=USER)
    yield "roberta", byte_level(380, pre_tokenizers.ByteLevel(add_prefix_space=True), specials=["<s>", "</s>"],
                                add=USER, post=lambda t: processors.RobertaProcessing(
                                    ("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))))
    several = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\r\n]"), "isolated"), pre_tokenizers.Split(Regex(r"\s?\p{L}+"), "isolated"),
        pre_tokenizers.Split(Regex(r"\s?[!-/:-~]+"), "isolated"), pre_tokenizers.Split(Regex(r"\s+$"), "isolated"),
        pre_tokenizers.Split(Regex(r"[一-龥ࠀ-一가-퟿]+"), "isolated"), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    yield "splits", byte_level(420, several, specials=CHAT, add=USER)
    bpe = sentence(folder, vocab_size=700, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                   remove_extra_whitespaces=False, split_digits=True, character_coverage=0.995, allow_whitespace_only_pieces=True,
                   user_defined_symbols=["<user>", "[MASK]"])
    yield "spm-bpe", Sentence(bpe, {"add_bos_token": True, "add_eos_token": False}, CHAT)
    yield "llama2", from_sentence(bpe, True)
    yield "mistral", from_sentence(bpe, False)
    tsv = "rules.tsv"  # the model names it
    os.chdir(folder)
    with open(tsv, "w", encoding="utf-8") as f:
        for a, b in [("\t", " "), ("\n", " "), ("\r", " "), ("\u00a0", " "), ("\u3000", " "), ("\u00bd", "1\u20442"), ("A", "a"), ("ﬁ", "fi"),
                     ("e\u0301", "é"), ("\u200b", ""), ("…", "..."), ("①", "1"), ("\u0308", "")]:
            f.write(" ".join("%X" % ord(c) for c in a) + "\t" + " ".join("%X" % ord(c) for c in b) + "\n")
    uni = sentence(folder, vocab_size=500, model_type="unigram", normalization_rule_tsv=tsv, character_coverage=0.99,
                   user_defined_symbols=["<user>", "[MASK]"])
    yield "spm-unigram", Sentence(uni)
    blob = charsmap(uni)
    yield "t5", unigram(uni, blob)
    yield "bert", wordpiece()
    yield "clip", words(pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=False)]), "</w>",
                        normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]))
    yield "metaspace", words(pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first"),
                                                      pre_tokenizers.Punctuation("merged_with_previous")]), None, normalizers.Nmt())
    base = byte_level(420, split(CL100K)).tok
    vocab = json.loads(base.to_str())["model"]["vocab"]
    back = {c: b for b, c in bytes_to_unicode().items()}
    raw = sorted((i, bytes(back[c] for c in s)) for s, i in vocab.items())
    ranks = {}
    for b in sorted((b for _, b in raw if len(b) == 1)) + [b for _, b in raw if len(b) > 1]:
        ranks[b] = len(ranks)
    yield "tiktoken", Ranks(ranks, CL100K, {"<|im_start|>": len(ranks), "<|im_end|>": len(ranks) + 1, "<s>": len(ranks) + 5})
    if not large:
        return
    nfkc = sentence(folder, vocab_size=900, model_type="unigram", normalization_rule_name="nmt_nfkc_cf", character_coverage=0.999)
    yield "nfkc-unigram", Sentence(nfkc)
    yield "nfkc-t5", unigram(nfkc, charsmap(nfkc))
    yield "nfkc-bpe", Sentence(sentence(folder, vocab_size=900, model_type="bpe", normalization_rule_name="nmt_nfkc", byte_fallback=True))
    yield "fallback-unigram", Sentence(sentence(folder, vocab_size=900, model_type="unigram", byte_fallback=True,
                                                normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False))


def bytes_to_unicode():
    own = list(range(0x21, 0x7f)) + list(range(0xa1, 0xad)) + list(range(0xae, 0x100))
    out = {b: chr(b) for b in own}
    for b in range(256):
        if b not in out:
            out[b] = chr(0x100 + len(out) - len(own))
    return out


def charsmap(path):
    """normalizer_spec.precompiled_charsmap of a model: field 2 of field 3."""
    def fields(b):
        i = 0

        def varint():
            nonlocal i
            v = shift = 0
            while True:
                c = b[i]
                i += 1
                v |= (c & 127) << shift
                shift += 7
                if c < 128:
                    return v
        while i < len(b):
            tag = varint()
            if tag & 7 == 2:
                n = varint()
                yield tag >> 3, b[i:i + n]
                i += n
            elif tag & 7 == 0:
                varint()
            else:
                i += 4 if tag & 7 == 5 else 8
    with open(path, "rb") as f:
        model = f.read()
    return next(s for k, s in fields(next(s for k, s in fields(model) if k == 3)) if k == 2)


def main():
    folder = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "tests", "golden", "tokenizers"))
    work = os.path.join("/tmp", "make_tokenizers.%d" % os.getpid())
    os.makedirs(work)
    for name, tok in kinds(work):
        to = os.path.join(folder, name)
        os.makedirs(to, exist_ok=True)
        for file, data in tok.files().items():
            with open(os.path.join(to, file), "wb") as f:
                f.write(data)
        with open(os.path.join(to, "cases.txt"), "w", encoding="ascii") as f:
            f.write("# tokenizers %s, sentencepiece %s, tiktoken %s\n" % (
                tokenizers.__version__, sentencepiece.__version__, tiktoken.__version__))
            for i, b in enumerate(texts(1, len(FIXED) + 60)):
                for flags in (0, 3) if i < len(FIXED) else (i % 3 + (i % 3 == 2),):
                    ids = tok.encode(clean(b), flags)
                    skipped, whole = tok.decode(ids, True), tok.decode(ids, False)
                    f.write("\t".join([str(flags), b.hex(), " ".join(map(str, ids)), "=" if skipped == b else skipped.hex(),
                                       "-" if whole is None else "." if whole == skipped else "=" if whole == b else whole.hex()]) + "\n")
    for path in glob.glob(os.path.join(work, "*")):
        os.unlink(path)
    os.rmdir(work)


if __name__ == "__main__":
    main()
