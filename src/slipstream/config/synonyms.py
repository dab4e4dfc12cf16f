"""Names of options and settings in other tools: PyTorch, Keras, Lightning, scikit-learn, Hugging Face.

All names are folded (`errors.folded`): in lower case, without periods and underscores.
"""

from __future__ import annotations

from collections.abc import Mapping

from slipstream.core.types import Plain

# For each group: other name -> slipstream's name.
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "data": {
        **dict.fromkeys(("csv", "tsv", "parquet", "pandas", "polars", "dataframe", "tabular"), "table"),
        **dict.fromkeys(("file", "excel", "xlsx"), "table"),
        **dict.fromkeys(("mnist", "fashionmnist", "emnist", "kmnist"), "idx"),
        **dict.fromkeys(("cifar10", "cifar100"), "cifar"),
        **dict.fromkeys(("imagefolder", "folder", "photos", "imagenet"), "images"),
        **dict.fromkeys(("timeseries", "series", "sequence"), "sequences"),
        **dict.fromkeys(("npz", "npy", "numpy", "safetensors", "tensors"), "arrays"),
        **dict.fromkeys(("huggingface", "hf", "datasets", "imdb"), "hub"),
        **dict.fromkeys(("moons", "makemoons"), "two_moons"),
        **dict.fromkeys(("txt", "texts", "reviews", "nlp"), "text"),
    },
    "model": {
        **dict.fromkeys(("dense", "fc", "fnn", "nn", "feedforward", "neuralnetwork", "mlpclassifier"), "mlp"),
        **dict.fromkeys(("mlpregressor", "sequential", "multilayerperceptron"), "mlp"),
        **dict.fromkeys(("linear", "logistic", "logisticregression", "linearregression"), "perceptron"),
        **dict.fromkeys(("cnn", "conv", "conv1d", "conv2d", "lenet", "vgg"), "convnet"),
        "lstm": "rnn model.cell=lstm",
        "gru": "rnn model.cell=gru",
        "recurrent": "rnn",
        **dict.fromkeys(("resnet18", "resnet34", "resnet50", "wideresnet"), "resnet"),
    },
    "activation": {"swish": "silu", "linear": "identity", "lrelu": "leaky_relu", "logistic": "sigmoid"},
    "initializer": {
        **dict.fromkeys(("he", "henormal", "kaiming"), "kaiming_normal"),
        "heuniform": "kaiming_uniform",
        **dict.fromkeys(("glorot", "glorotuniform", "xavier"), "xavier_uniform"),
        "glorotnormal": "xavier_normal",
        **dict.fromkeys(("lecun",), "lecun_normal"),
        **dict.fromkeys(("gaussian", "randomnormal"), "normal"),
        **dict.fromkeys(("truncnormal", "truncatednormal"), "truncated_normal"),
        **dict.fromkeys(("zero",), "zeros"),
        "default": "auto",
    },
    "loss": {
        **dict.fromkeys(("bce", "bceloss", "bcewithlogits", "bcewithlogitsloss"), "binary_cross_entropy"),
        **dict.fromkeys(("binarycrossentropy",), "binary_cross_entropy"),
        **dict.fromkeys(("ce", "nll", "nllloss", "logloss", "softmax", "softmaxloss"), "cross_entropy"),
        **dict.fromkeys(("categoricalcrossentropy", "sparsecategoricalcrossentropy"), "cross_entropy"),
        **dict.fromkeys(("l1", "l1loss", "meanabsoluteerror", "absoluteerror"), "mae"),
        **dict.fromkeys(("l2", "l2loss", "meansquarederror", "squarederror", "rmse"), "mse"),
        **dict.fromkeys(("kl", "kldiv", "kldivloss", "kullbackleibler"), "kl_divergence"),
        **dict.fromkeys(("pinball", "pinballloss"), "quantile"),
        **dict.fromkeys(("gaussian", "gaussiannllloss"), "gaussian_nll"),
        **dict.fromkeys(("poisson", "poissonnllloss"), "poisson_nll"),
        **dict.fromkeys(("cosine", "cosineembeddingloss"), "cosine_similarity"),
        "svm": "hinge",
    },
    "optimizer": {
        **dict.fromkeys(("sgdm", "sgdmomentum", "heavyball"), "momentum"),
        **dict.fromkeys(("nag", "sgdnesterov"), "nesterov"),
        **dict.fromkeys(("gd", "batchgd", "fullbatch"), "gradient_descent"),
        **dict.fromkeys(("schedulefreeadamw", "adamwschedulefree"), "schedule_free"),
    },
    "scheduler": {
        **dict.fromkeys(("cosineannealing", "cosineannealinglr", "cosinedecay", "cosinelr"), "cosine"),
        **dict.fromkeys(("cosineannealingwarmrestarts", "sgdr", "warmrestarts"), "cosine_restarts"),
        **dict.fromkeys(("exponentiallr", "exponentialdecay"), "exponential"),
        **dict.fromkeys(("steplr", "stepdecay"), "step"),
        **dict.fromkeys(("multisteplr", "piecewiseconstant"), "multi_step"),
        **dict.fromkeys(("linearlr", "lineardecay", "linearwarmup"), "linear"),
        **dict.fromkeys(("polynomiallr", "polynomialdecay", "poly"), "polynomial"),
        **dict.fromkeys(("plateau", "reducelronplateau"), "reduce_on_plateau"),
        **dict.fromkeys(("onecyclelr", "superconvergence", "1cycle"), "one_cycle"),
        **dict.fromkeys(("wsd", "trapezoidal"), "warmup_stable_decay"),
        **dict.fromkeys(("noam", "transformer"), "inverse_sqrt"),
        **dict.fromkeys(("none", "false", "off"), "constant"),
    },
    "regularizer": {
        **dict.fromkeys(("bn", "batchnormalization", "batchnorm1d", "batchnorm2d"), "batch_norm"),
        **dict.fromkeys(("ln", "layernormalization"), "layer_norm"),
        **dict.fromkeys(("groupnormalization",), "group_norm"),
        **dict.fromkeys(
            ("clip", "gradclip", "clipgradnorm", "gradientclip", "gradientclipval"), "gradient_clipping"
        ),
        **dict.fromkeys(("clipnorm", "maxgradnorm", "gradientclipvalue"), "gradient_clipping"),
        **dict.fromkeys(("stochasticdepth", "droppathrate"), "drop_path"),
        **dict.fromkeys(("smoothing", "labelsmoothing"), "label_smoothing"),
        **dict.fromkeys(("lasso",), "l1"),
        **dict.fromkeys(("ridge", "tikhonov"), "l2"),
        **dict.fromkeys(("dropout2d", "dropout1d"), "spatial_dropout"),
        **dict.fromkeys(("stochasticweightaveraging", "weightaveraging"), "swa"),
        **dict.fromkeys(("exponentialmovingaverage", "modelema"), "ema"),
    },
    "augmentation": {
        **dict.fromkeys(("flip", "hflip", "randomhorizontalflip", "randomflip", "fliplr"), "horizontal_flip"),
        **dict.fromkeys(("vflip", "randomverticalflip", "flipud"), "vertical_flip"),
        **dict.fromkeys(("randomcrop", "randomresizedcrop"), "crop"),
        **dict.fromkeys(("rotate", "randomrotation"), "rotation"),
        **dict.fromkeys(("translate", "shift", "randomtranslation"), "translation"),
        **dict.fromkeys(("shear", "randomshear"), "shearing"),
        **dict.fromkeys(("zoom", "scale", "scaling", "randomzoom", "stretch"), "stretching"),
        **dict.fromkeys(("randomerasing", "erase"), "erasing"),
        **dict.fromkeys(("autoaugment", "trivialaugmentwide"), "trivial_augment"),
        **dict.fromkeys(("noise", "gaussiannoise"), "pixel_noise"),
        **dict.fromkeys(("gaussianblur",), "blur"),
        **dict.fromkeys(("elastictransform",), "elastic"),
        **dict.fromkeys(("randomperspective",), "perspective"),
        **dict.fromkeys(("jitter", "colourjitter", "brightness", "contrast"), "color_jitter"),
    },
    "early_stopping": {
        **dict.fromkeys(("true", "earlystopping", "yes", "on"), "patience"),
        **dict.fromkeys(("false", "no", "off"), "none"),
        **dict.fromkeys(("time", "maxtime", "timeout"), "time_limit"),
    },
    "logger": {
        **dict.fromkeys(("true", "tb", "tensorboardlogger"), "tensorboard"),
        **dict.fromkeys(("false", "no"), "none"),
        **dict.fromkeys(("csvlogger",), "csv"),
        **dict.fromkeys(("mlflowlogger", "mlflowtracker"), "mlflow"),
        **dict.fromkeys(("wandblogger", "weightsandbiases"), "wandb"),
    },
    "metric": {
        **dict.fromkeys(("acc", "categoricalaccuracy", "binaryaccuracy"), "accuracy"),
        **dict.fromkeys(("f1", "f1score", "fscore", "macrof1"), "f1_macro"),
        **dict.fromkeys(("auc", "auroc", "rocaucscore"), "roc_auc"),
        **dict.fromkeys(("ap", "averageprecision", "auprc", "prauc"), "pr_auc"),
        **dict.fromkeys(("precision",), "precision_macro"),
        **dict.fromkeys(("recall", "sensitivity"), "recall_macro"),
        **dict.fromkeys(("crossentropy", "nll"), "log_loss"),
        **dict.fromkeys(("meansquarederror",), "mse"),
        **dict.fromkeys(("meanabsoluteerror",), "mae"),
        **dict.fromkeys(("rootmeansquarederror",), "rmse"),
        **dict.fromkeys(("r2score", "rsquared"), "r2"),
        **dict.fromkeys(("cohenkappa",), "kappa"),
        **dict.fromkeys(("matthews", "matthewscorrcoef"), "mcc"),
        **dict.fromkeys(("top5",), "top_5_accuracy"),
    },
    "sweep": {
        **dict.fromkeys(("gridsearch",), "grid"),
        **dict.fromkeys(("randomsearch",), "random"),
        **dict.fromkeys(("optuna", "bayes", "bayesian", "hyperopt"), "tpe"),
        **dict.fromkeys(("sobol", "qmc"), "quasi_random"),
        **dict.fromkeys(("cmaes",), "cma_es"),
        **dict.fromkeys(("gaussianprocess",), "gp"),
    },
}

# Other name of a setting -> its possible names here. A section has one or several of them.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("learningrate", "eta", "learningrateinit", "baselr", "maxlr"), ("lr",)),
    "stepsize": ("every_epochs", "lr"),  # the period in torch's StepLR; elsewhere a learning rate
    "betas": ("beta1", "beta2"),
    "b1": ("beta1",),
    "b2": ("beta2",),
    "epsilon": ("eps",),
    "wd": ("weight_decay",),
    **dict.fromkeys(("epochs", "epoch", "numepochs", "nepochs", "maxepoch", "maxiter"), ("max_epochs",)),
    **dict.fromkeys(("niter", "nbepoch", "numtrainepochs", "iterations"), ("max_epochs",)),
    **dict.fromkeys(("bs", "batch", "minibatch", "minibatchsize", "trainbatchsize"), ("batch_size",)),
    **dict.fromkeys(("perdevicetrainbatchsize", "batches"), ("batch_size",)),
    **dict.fromkeys(("hiddensize", "hiddendim", "hiddenunits", "units", "nunits", "neurons"), ("width",)),
    **dict.fromkeys(("hidden", "hiddenlayersizes", "hiddensizes", "hiddendims", "dmodel"), ("width",)),
    **dict.fromkeys(("filters", "outchannels", "numfilters"), ("channels",)),
    **dict.fromkeys(("layers", "numlayers", "nlayers", "hiddenlayers", "numhiddenlayers"), ("depth",)),
    **dict.fromkeys(("nhidden", "numhidden"), ("depth",)),
    **dict.fromkeys(("kernel", "ksize"), ("kernel_size",)),
    **dict.fromkeys(("p", "prob", "dropoutrate", "droprate"), ("rate", "probability")),
    **dict.fromkeys(("lambda", "alpha", "coefficient", "weight", "penalty"), ("strength",)),
    **dict.fromkeys(("clipval", "maxgradnorm", "clipvalue"), ("max_norm",)),
    "smoothing": ("amount",),
    **dict.fromkeys(("gamma", "decayrate"), ("factor", "factor_per_epoch", "decay_per_epoch")),
    "milestones": ("milestones_epochs",),
    "etamin": ("end",),
    **dict.fromkeys(("warmup", "warmupepochs", "numwarmupsteps"), ("warmup_steps",)),
    **dict.fromkeys(("precision", "amp", "fp16", "bf16", "mixedprecision", "half"), ("dtype",)),
    **dict.fromkeys(("gpu", "gpus", "accelerator", "devices", "cuda", "usecuda"), ("device",)),
    **dict.fromkeys(("accumulategradbatches", "gradientaccumulationsteps"), ("accumulate",)),
    **dict.fromkeys(("nthreads", "numthreads", "njobs"), ("threads",)),
    **dict.fromkeys(("metric", "score", "scoring"), ("metrics", "metric")),
    **dict.fromkeys(("verbose", "progressbar", "enableprogressbar", "quiet"), ("progress",)),
    **dict.fromkeys(("randomstate", "randomseed", "manualseed", "rngseed"), ("seed",)),
    **dict.fromkeys(("earlystoppingpatience", "earlystoppingrounds", "niternochange"), ("patience",)),
    "restorebestweights": ("restore_best",),
    "tol": ("min_delta",),
    **dict.fromkeys(("val", "valsize", "valsplit", "validationsplit", "validationsize"), ("validation",)),
    **dict.fromkeys(("validationfraction", "valfraction"), ("validation",)),
    **dict.fromkeys(("testsize", "testsplit", "testfraction"), ("test",)),
    **dict.fromkeys(("kfold", "kfolds", "nfolds", "nsplits", "cv"), ("folds",)),
    **dict.fromkeys(
        ("label", "y", "targetcolumn", "labelcolumn", "targetcol", "outcome"), ("target", "targets")
    ),
    **dict.fromkeys(("labelcol", "ycol", "targetname"), ("target",)),
    **dict.fromkeys(("file", "filename", "datapath", "root", "dir", "folder", "csv", "datadir"), ("path",)),
    **dict.fromkeys(("features", "columns", "x", "featurecolumns"), ("inputs",)),
    **dict.fromkeys(("sep", "delimiter"), ("separator",)),
    **dict.fromkeys(("classweight", "posweight"), ("class_weights",)),
    **dict.fromkeys(("sampleweight", "weightcol"), ("weight_column", "weights")),
    **dict.fromkeys(("groups", "groupcol"), ("group_column",)),
    **dict.fromkeys(("navalues", "nan", "missingvalues"), ("missing",)),
    **dict.fromkeys(("dtypes", "types"), ("kinds",)),
    **dict.fromkeys(("imagesize", "imgsize", "resize", "resolution"), ("size",)),
    **dict.fromkeys(("maxlen", "maxseqlen", "maxsequencelength"), ("max_length",)),
    **dict.fromkeys(("vocabsize", "maxtokens", "maxfeatures"), ("max_words",)),
    **dict.fromkeys(("normalize", "standardize", "scaler", "normalization"), ("scaling",)),
    **dict.fromkeys(("ntrials", "numtrials", "numsamples", "maxtrials"), ("trials",)),
    "nseeds": ("repeats",),
    **dict.fromkeys(("experimentname", "runname", "exp", "expname"), ("name",)),
}

# Other value of a key -> slipstream's value.
VALUES: Mapping[str, Mapping[str, Plain]] = {
    "trainer.device": {
        **dict.fromkeys(("gpu", "cuda0", "true", "1", "nvidia"), "cuda"),
        **dict.fromkeys(("mps", "tpu", "best"), "auto"),
        **dict.fromkeys(("false", "0"), "cpu"),
    },
    "trainer.dtype": {
        **dict.fromkeys(
            ("16", "bf16", "16mixed", "bf16mixed", "float16", "fp16", "half", "true"), "bfloat16"
        ),
        **dict.fromkeys(("mixed", "mixedfloat16", "amp"), "bfloat16"),
        **dict.fromkeys(("32", "64", "fp32", "float", "float64", "double", "32true", "false"), "float32"),
    },
    "trainer.mode": {"minimize": "min", "maximize": "max"},
    "trainer.monitor": {
        **dict.fromkeys(("valloss", "validationloss", "loss"), "val/loss"),
        **dict.fromkeys(("valacc", "valaccuracy", "accuracy", "acc"), "val/accuracy"),
    },
    "trainer.progress": {
        "true": "bar",
        "1": "bar",
        "2": "plain",
        "false": "none",
        "0": "none",
        "off": "none",
    },
    "data.kinds": {
        **dict.fromkeys(("float", "float32", "float64", "int", "int64", "integer", "continuous"), "number"),
        **dict.fromkeys(("categorical", "str", "string", "text", "object", "factor"), "category"),
        **dict.fromkeys(("datetime", "time", "timestamp"), "date"),
        **dict.fromkeys(("skip", "drop", "none", "null"), "ignore"),
    },
    "data.task": {"classification": "auto", "categorical": "multiclass", "continuous": "regression"},
    "data.scaling": {
        **dict.fromkeys(("standardscaler", "zscore", "true", "normalize", "standardize"), "standard"),
        **dict.fromkeys(("minmaxscaler",), "minmax"),
        **dict.fromkeys(("false", "null", "no"), "none"),
    },
}

# Names without a counterpart here, and why none is needed.
ANSWERS: Mapping[str, str] = {
    **dict.fromkeys(("numworkers", "pinmemory", "workersperloader"), "data are read only once; remove it"),
    "shuffle": "training rows are shuffled every epoch; remove it",
    **dict.fromkeys(("callbacks", "callback"), "there are none; early_stopping=patience stops early"),
    **dict.fromkeys(("outputdir", "logdir", "savedir", "defaultrootdir"), "use hydra.run.dir=DIR"),
    **dict.fromkeys(("checkpoint", "ckptpath", "resumefrom"), "use resume=DIR with the folder of a run"),
    "pretrained": "networks start untrained; remove it",
    **dict.fromkeys(
        ("maxsteps", "steps", "trainsteps"), "training is measured in epochs; set trainer.max_epochs"
    ),
}

# Settings of other tools that name columns to leave out.
LEFT_OUT = (
    *("ignore", "ignorecolumns", "ignoredcolumns", "ignorecols", "drop", "dropcolumns", "dropcols", "skip"),
    *("skipcolumns", "exclude", "excludecolumns", "excluded", "columnstodrop", "omit", "remove"),
)

# Commands of other tools, typed as a single word.
COMMANDS: Mapping[str, str] = {
    **{word: f"remove {word}: slipstream trains without a command" for word in ("fit", "run")},
    "train": "train stands before all settings: slipstream train KEY=VALUE",
    **dict.fromkeys(("test", "evaluate", "eval"), "did you mean slipstream evaluate RUN?"),
    **dict.fromkeys(("predict", "infer"), "did you mean slipstream predict RUN FILE -o OUT?"),
    **dict.fromkeys(
        ("sweep", "multirun", "tune", "search"),
        "-m sweeps every key that has several values: -m optimizer.lr=0.1,0.01",
    ),
    "help": "did you mean --help?",
    "version": "did you mean --version?",
}
